"""Train and test the runs of the accuracy benchmark that have no result yet."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.accuracy_runs import Runs
from harness.accuracy_tables import (
    ENSEMBLES,
    EPOCHS_OF_START,
    EXPERIMENTS,
    MEMBERS,
    STARTED,
    STARTS,
    Run,
    all_options,
    ensemble,
    member_seeds,
)
from harness.jobs import QUICK, best, run_job
from stnrot.errors import InputError

Tables = dict[str, dict[str, list[int]]]  # seeds of each row of each table


class Start(NamedTuple):
    """Result of a short run; val/nll comes first, so that `min` returns the start with the lowest."""

    nll: float
    checkpoint: Path
    minutes: float  # that one core was busy


@dataclass(frozen=True)
class Training:
    """Where and how runs are trained.

    Args:
        folder: of all runs.
        root: folder of MNIST.
        jobs: number of runs at a time.
        threads: of each run.
        overrides: of every run, besides those of its row.
    """

    folder: Path
    root: Path
    runs: Runs
    jobs: int
    threads: int
    overrides: tuple[str, ...] = ()

    def run_all(self, tables: Tables) -> None:
        """Train and test the runs that have no result, each after its starts, then test the ensembles."""
        wanted = [
            (name, model, seed) for name, rows in tables.items() for model, seeds in rows.items() for seed in seeds
        ]
        ensembles = [run for run in wanted if run[0] in ENSEMBLES and run[1] == ensemble(run[0])]
        jobs: list[Future[Any]] = []  # started in this order, so that no run waits for a start that has not started
        with ThreadPoolExecutor(self.jobs) as pool:
            for run in wanted:
                if run not in ensembles:
                    seeds = STARTS if run[1] == STARTED and run not in self.runs.results else ()
                    starts = [pool.submit(self.train_start, run, seed) for seed in seeds]
                    jobs += [*starts, pool.submit(self.train, run, starts)]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:  # a failed run, or Ctrl-C: the current runs finish, no other starts
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for name, _, seed in ensembles:
            self.combine(name, seed)

    def train(self, run: Run, starts: Sequence[Future[Start]]) -> None:
        """Train and test once, from the start with the lowest val/nll if there are starts; skip a run with a result."""
        folder, runs = place(self.folder, run), self.runs
        whole = ensemble_of(run)  # needs the weights of its members until it is tested
        if run in runs.results and (whole is None or whole in runs.results or best(folder).exists()):
            return
        begun = [start.result() for start in starts]
        options, facts = [*runs.options[run[:2]]], {}
        if begun:
            options.append(f"start_from='{min(begun).checkpoint}'")
            facts = {"epochs_of_start": EPOCHS_OF_START[run[0]], "nll_of_starts": [start.nll for start in begun]}
        minutes = self.call_train(run, folder, options)
        if run not in runs.results:
            runs.add(run, folder, minutes + sum(start.minutes for start in begun), **facts)

    def train_start(self, run: Run, seed: int) -> Start:
        """Train a short run. Without angle labels the start decides which orientation becomes the upright one."""
        name, model, begun = run
        short = (name, f"{model}, start", 10 * begun + seed)
        folder = place(self.folder, short)
        options = [f"trainer.max_epochs={EPOCHS_OF_START[name]}", "monitor.metric=val/nll", "monitor.mode=min"]
        minutes = self.call_train(short, folder, [*self.runs.options[name, model], *options])
        return Start(json.loads((folder / "metrics.json").read_text())["val/nll"], best(folder), minutes)

    def combine(self, name: str, seed: int) -> None:
        """Test the ensemble of the members whose seeds begin with `seed`; skip an ensemble with a result."""
        run = (name, ensemble(name), seed)
        if run in self.runs.results:
            return
        folder = place(self.folder, run)
        members = [(name, ENSEMBLES[name], member) for member in member_seeds([seed])]
        pattern = best(place(self.folder, members[0]).with_name(f"{seed}[{MEMBERS[0]}-{MEMBERS[-1]}]"))
        run_job("evaluate.py", folder, [f"ckpt='{pattern}'"], self.threads)
        self.runs.add(run, folder, sum(self.runs.results[member]["core_minutes"] for member in members))

    def call_train(self, run: Run, folder: Path, options: list[str]) -> float:
        """Run train.py in a folder and return the core-minutes that it took."""
        name, _, seed = run
        overrides = [f"experiment={EXPERIMENTS[name][0]}", *options, f"seed={seed}", *self.overrides]
        if name != "rotated_digits":
            overrides.append(f"data.root={self.root}")
        return run_job("train.py", folder, overrides, self.threads)


def ensemble_of(run: Run) -> Run | None:
    """Return the ensemble that a run is a member of."""
    name, model, seed = run
    return (name, ensemble(name), seed // 10) if ENSEMBLES.get(name) == model else None


def train_quickly(folder: Path, root: Path, name: str) -> None:
    """Train `rot_stn` for one table on a few images, for the quick form of the benchmarks that read the checkpoints."""
    runs = Runs(folder / "runs.jsonl", all_options())
    Training(folder, root, runs, 1, 1, QUICK).run_all({name: {"rot_stn": [1]}})


def checkpoints(folder: Path, name: str, models: Iterable[str]) -> dict[str, list[Path]]:
    """Return the checkpoints of all seeds of those rows of a table that have been trained in a folder.

    Raises:
        InputError: if none has.
    """
    found = {}
    for model in models:
        folders = sorted(place(folder, (name, model, 1)).parent.glob("*"))
        if paths := [best(each) for each in folders if best(each).is_file()]:
            found[model] = paths
    if not found:
        train = f"python benchmarks/accuracy.py --only {name} --runs new.jsonl"
        raise InputError(f"{folder / name}: expected the runs of accuracy.py, found none; run {train}")
    return found


def place(folder: Path, run: Run) -> Path:
    """Return the folder of a run."""
    name, model, seed = run
    return (folder / name / model.replace(", ", "-").replace("=", "_").replace(" ", "_") / str(seed)).absolute()
