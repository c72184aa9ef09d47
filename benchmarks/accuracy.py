"""The accuracy of the rotation-only transformer and its baselines, by whole runs of train.py.

    python benchmarks/accuracy.py --root data [--only mnist_rot ...] [--seeds 3] [--jobs 2] [--runs docs/accuracy.jsonl]

trains every experiment of configs/experiment/ with every model and seed. What a run found is a line of --runs, and is
not run again: the whole can be stopped and continued, on another machine too. Name another file to begin from scratch,
which takes a day on two cores: the tables have the minutes that one core was busy with a run. With a GPU the runs are
on it, and the tables name it and have no minutes of it. The tables are printed as Markdown, and written as JSON and,
for the curve, as PNG into --folder, below which the runs lie. With --report nothing is run, and the tables are of the
runs that are known.

Equal budgets: in one experiment all models have the same data, classifier, optimizer, epochs and seeds, and `rot_stn`
is the default model; in few_labels its classifier sees turns of up to 25 degrees, and with up to 1,000 pictures two
options keep its encoder from learning them by heart. With either encoder its training pictures are deformed behind it
(`model.augment`), those of the others by the same amounts before (`data.augment`). Where pictures are stored turned, a
deformation before is a second sampling, which made the CNN worse on mnist_rot (2.94 % error for 2.54, on validation
pictures): there all but the search turn them further, by any angle, and few_labels has rows of the CNN for both. Each
run tests once, the checkpoint that its experiment says. The ensemble has three times the budget: three runs of their
own seeds, tested as one by evaluate.py. The best of four starts has that of its short runs besides; it begins at the
epoch, of all theirs, with the lowest val/nll (on mnist_rot of pictures that are trained on too), and what they test is
not looked at.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from accuracy_runs import Found, Run, Runs, summary, test_error  # type: ignore[import-not-found]
from accuracy_tables import (  # type: ignore[import-not-found]
    CURVES,
    ENSEMBLES,
    EPOCHS_OF_START,
    EXPERIMENTS,
    FEW,
    MEMBERS,
    STARTED,
    STARTS,
)
from timing import at_least_one, environment, markdown  # type: ignore[import-not-found]

from stnrot.runs.command_line import one_line_errors

PROJECT = Path(__file__).resolve().parents[1]
Tables = dict[str, dict[str, list[int]]]  # seeds of each row of each table


class Start(NamedTuple):
    """What came of a short run; val/nll comes first, so that `min` is the likeliest."""

    nll: float
    checkpoint: Path
    minutes: float  # that one core was busy


def run_all(tables: Tables, args: argparse.Namespace, runs: Runs) -> None:
    """Train and test what is not known yet: runs, each after its starts if it has any, and the ensembles of runs."""
    wanted = [(name, model, seed) for name, rows in tables.items() for model, seeds in rows.items() for seed in seeds]
    ensembles = [run for run in wanted if run[0] in ENSEMBLES and run[1] == ensemble(run[0])]
    jobs: list[Future[Any]] = []  # begun in this order: no run waits for a start that is not at work
    with ThreadPoolExecutor(args.jobs) as pool:
        for run in wanted:
            if run not in ensembles:
                seeds = STARTS if run[1] == STARTED and run not in runs.found else ()
                starts = [pool.submit(train_start, run, seed, args, runs) for seed in seeds]
                jobs += [*starts, pool.submit(train, run, starts, args, runs)]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:  # a run that failed, or Ctrl-C: the rows at work are finished, no other begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for name, _, seed in ensembles:
        combine(name, seed, args, runs)


def train(run: Run, starts: Sequence[Future[Start]], args: argparse.Namespace, runs: Runs) -> None:
    """Train and test once, unless it is known what comes out; begin at the likeliest of the starts, if any."""
    folder = place(args.folder, run)
    whole = ensemble_of(run)  # until that is tested the weights are needed
    if run in runs.found and (whole is None or whole in runs.found or best(folder).exists()):
        return
    begun = [start.result() for start in starts]
    options, facts = [*runs.options[run[:2]]], {}
    if begun:
        options.append(f"start_from='{min(begun).checkpoint}'")
        facts = {"epochs_of_start": EPOCHS_OF_START[run[0]], "nll_of_starts": [start.nll for start in begun]}
    minutes = call_train(run, folder, args, options)
    if run not in runs.found:
        runs.add(run, folder, minutes + sum(start.minutes for start in begun), **facts)


def train_start(run: Run, seed: int, args: argparse.Namespace, runs: Runs) -> Start:
    """Train a short run to begin another with: without angle labels the start decides what becomes the upright."""
    name, model, begun = run
    short = (name, f"{model}, start", 10 * begun + seed)
    folder = place(args.folder, short)
    options = [f"trainer.max_epochs={EPOCHS_OF_START[name]}", "monitor.metric=val/nll", "monitor.mode=min"]
    minutes = call_train(short, folder, args, [*runs.options[name, model], *options])
    return Start(json.loads((folder / "metrics.json").read_text())["val/nll"], best(folder), minutes)


def combine(name: str, seed: int, args: argparse.Namespace, runs: Runs) -> None:
    """Test the members with the seeds that begin with `seed` as one, unless it is known what comes out."""
    run = (name, ensemble(name), seed)
    if run in runs.found:
        return
    folder = place(args.folder, run)
    members = [(name, ENSEMBLES[name], member) for member in member_seeds([seed])]
    pattern = best(place(args.folder, members[0]).with_name(f"{seed}[{MEMBERS[0]}-{MEMBERS[-1]}]"))
    command = [sys.executable, str(PROJECT / "evaluate.py"), f"ckpt='{pattern}'", "callbacks.progress=null"]
    call([*command, f"hydra.run.dir='{folder}'"], folder, args.threads)
    runs.add(run, folder, sum(runs.found[member]["core_minutes"] for member in members))


def best(folder: Path) -> Path:
    """Return the checkpoint of a run."""
    return folder / "checkpoints" / "best.ckpt"


def ensemble_of(run: Run) -> Run | None:
    """Return the ensemble that a run is a member of."""
    name, model, seed = run
    return (name, ensemble(name), seed // 10) if ENSEMBLES.get(name) == model else None


def ensemble(name: str) -> str:
    """Return what the row of a table's ensemble is called."""
    return f"{ENSEMBLES[name]}, ensemble of {len(MEMBERS)}"


def member_seeds(seeds: list[int]) -> list[int]:
    """Return the seeds of the members of the ensembles."""
    return [10 * seed + member for seed in seeds for member in MEMBERS]


def call_train(run: Run, folder: Path, args: argparse.Namespace, options: list[str]) -> float:
    """Run train.py in a folder and return the core-minutes that it took."""
    name, _, seed = run
    command = [sys.executable, str(PROJECT / "train.py"), f"experiment={EXPERIMENTS[name][0]}", *options]
    command += [f"seed={seed}", f"hydra.run.dir='{folder}'", "callbacks.progress=null"]
    if name != "rotated_digits":
        command.append(f"data.root={args.root}")
    return call(command, folder, args.threads)


def call(command: list[str], folder: Path, threads: int) -> float:
    """Run a command that writes into a folder, begun anew, and return the core-minutes that it took."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    with (folder / "output.txt").open("w") as output:
        environ = os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}; see {folder / 'output.txt'}")
    return (used.ru_utime + used.ru_stime) / 60


def options_of_rows() -> dict[tuple[str, str], list[str]]:
    """Return what each row of each table has besides its experiment; an ensemble has what its members have."""
    rows = {(name, model): options for name, (_, models) in EXPERIMENTS.items() for model, options in models.items()}
    return rows | {(name, ensemble(name)): rows[name, member] for name, member in ENSEMBLES.items()}


def place(folder: Path, run: Run) -> Path:
    """Return the folder of a run."""
    name, model, seed = run
    return (folder / name / model.replace(", ", "-").replace("=", "_").replace(" ", "_") / str(seed)).absolute()


def draw_curve(path: Path, runs: Runs, seeds: list[int]) -> None:
    """Draw test error against the number of training images, with the deviation over the seeds."""
    from error_curve import error_curve  # type: ignore[import-not-found]  # matplotlib takes a second

    figure, axes = error_curve("training images", FEW)
    means = {}
    for model in CURVES:
        errors = [[test_error(each) for each in runs.of(f"few_labels_{n}", model, seeds)] for n in FEW]
        deviations = [stdev(each) if len(each) > 1 else 0.0 for each in errors]
        means[model] = [mean(each) for each in errors]
        axes.errorbar(FEW, means[model], deviations, fmt="o-", label=model, capsize=3)
    baselines = zip(*(means[model] for model in CURVES if model.startswith("cnn")), strict=True)
    axes.plot(FEW, [each / 2 for each in means["cnn"]], "--", color="grey", label="half the errors of cnn")
    axes.plot(FEW, [min(each) / 2 for each in baselines], ":", color="grey", label="half those of the better cnn")
    axes.legend(fontsize=8, loc="upper right")
    figure.savefig(path)


def main() -> None:
    """Train, test and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", default="data", help="the folder of MNIST")
    options.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="TABLE")
    options.add_argument("--models", nargs="+", metavar="ROW", help="rows, by name; default: all")
    options.add_argument("--seeds", type=at_least_one, default=3)
    options.add_argument("--jobs", type=at_least_one, default=1, help="runs side by side, which share the cores")
    options.add_argument("--folder", type=Path, default=Path("outputs/accuracy"), help="of the runs and the tables")
    options.add_argument("--runs", type=Path, default=PROJECT / "docs" / "accuracy.jsonl", help="what runs found")
    options.add_argument("--report", action="store_true", help="run nothing")
    args = options.parse_args()
    names = {model for name in args.only for model in EXPERIMENTS[name][1]}
    if args.report and not args.runs.is_file():
        options.error(f"--runs {args.runs}: expected the file of the runs to report")
    if args.models and not names.issuperset(args.models):
        options.error(f"--models {sorted({*args.models} - names)}: expected some of {sorted(names)}")
    args.root = str(Path(args.root).absolute())
    args.threads = max(1, (os.cpu_count() or 1) // args.jobs)
    args.folder.mkdir(parents=True, exist_ok=True)
    seeds = list(range(1, args.seeds + 1))
    runs = Runs(args.runs, options_of_rows())

    tables: Tables = {}
    for name in args.only:
        tables[name] = {model: seeds for model in EXPERIMENTS[name][1] if model in (args.models or names)}
        if ENSEMBLES.get(name) in tables[name]:
            tables[name] |= {ENSEMBLES[name]: member_seeds(seeds), ensemble(name): seeds}
    if not args.report:
        run_all(tables, args, runs)

    here = {} if args.report else environment("cpu") | {"threads": f"{args.threads} a run"}
    facts = {"seeds": args.seeds} | here
    tables_found: dict[str, Any] = {"environment": facts}
    print(", ".join(f"{key}: {value}" for key, value in facts.items()))
    for name, rows in tables.items():
        known = {model: found for model, each in rows.items() if (found := runs.of(name, model, each))}
        if not known:
            continue
        tables_found[name] = [{"model": model, "runs": str(len(each))} | summary(each) for model, each in known.items()]
        print(f"\n{name}\n\n{markdown(tables_found[name])}")
        if name == "upright_angle":
            report_half_turns(tables_found, known)
    points = [(f"few_labels_{n}", model) for n in FEW for model in CURVES]
    if all(model in tables.get(name, ()) and runs.of(name, model, seeds) for name, model in points):
        draw_curve(args.folder / "few_labels.png", runs, seeds)
    (args.folder / "accuracy.json").write_text(json.dumps(tables_found, indent=2) + "\n")


def report_half_turns(tables: dict[str, Any], known: dict[str, list[Found]]) -> None:
    """Print the share of half-turns by class, of the models that were taught the angle."""
    tables["half_turns"] = [
        {"model": model} | {c: f"{mean(each['half_turns'][c] for each in found):.1f}" for c in found[0]["half_turns"]}
        for model, found in known.items()
        if found[0]["half_turns"]
    ]
    if tables["half_turns"]:
        print(f"\nangles off by a half turn, % of each class\n\n{markdown(tables['half_turns'])}")


if __name__ == "__main__":
    with one_line_errors():
        main()
