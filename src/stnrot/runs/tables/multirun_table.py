"""A Hydra callback that prints a table of the jobs, and of their means over the seeds, when a multirun ends."""

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from stnrot.runs.tables.columns import decimals, print_table, short_names, write_table

FINISHED = "figures, tables and checkpoints"  # begins the line that a job logs at its end


@dataclass(frozen=True)
class Job:
    """The folder of a job, its options and its metrics, and whether it finished.

    A finished job has metrics.json, its last file. With `callbacks=null` it has only the last line of its log.
    """

    folder: Path
    options: dict[str, str]
    metrics: dict[str, float]
    finished: bool


class MultirunTable(Callback):
    """Print one row per job, then mean and standard deviation over the seeds. Write jobs.csv into the sweep folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the tables. Exit with status 1 if a job did not finish."""
        folder = Path(config.hydra.sweep.dir)
        found = [path.parents[1] for path in folder.glob("*/.hydra/overrides.yaml")]
        jobs = [_read(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]
        if not jobs:
            return
        options = _differing(jobs)
        metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
        numbers = {"job": [job.folder.name for job in jobs]}
        columns: dict[str, list[Any]] = {**numbers}
        columns |= {key: [job.options.get(key, "") for job in jobs] for key in options}
        columns |= {name: [job.metrics.get(name, "") for job in jobs] for name in metrics}
        write_table(folder / "jobs.csv", columns)
        print_table(str(folder), numbers | _columns([[job] for job in jobs], options, metrics), keys=1 + len(options))
        for job in jobs:
            if not job.finished:
                print(f"job {job.folder.name} did not finish")
        _print_seeds(jobs, [key for key in options if key != "seed"], metrics)
        if failures := sum(not job.finished for job in jobs):
            sys.exit(f"error: {failures} of {len(jobs)} jobs did not finish, see the lines above")


def _read(folder: Path) -> Job:
    overrides: Any = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
    options = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
    metrics = folder / "metrics.json"
    if metrics.is_file():
        return Job(folder, options, json.loads(metrics.read_text()), True)
    return Job(folder, options, {}, any(f"- {FINISHED}: " in log.read_text() for log in folder.glob("*.log")))


def _differing(jobs: list[Job]) -> list[str]:
    keys = list(dict.fromkeys(key for job in jobs for key in job.options))
    return [key for key in keys if len({job.options.get(key) for job in jobs}) > 1]


def _print_seeds(jobs: list[Job], options: list[str], metrics: list[str]) -> None:
    """Print one row per group of finished jobs that differ only in their seed."""
    groups: dict[tuple[str | None, ...], list[Job]] = {}
    for job in jobs:
        if job.metrics:
            groups.setdefault(tuple(job.options.get(key) for key in options), []).append(job)
    several = [group for group in groups.values() if len(group) > 1]
    if several:
        counts = {"seeds": [str(len(group)) for group in several]}
        columns = counts | _columns(several, options, metrics)
        print_table("mean ± standard deviation over the seeds", columns, keys=1 + len(options))


def _columns(groups: list[list[Job]], options: list[str], metrics: list[str]) -> dict[str, list[str]]:
    """Return the columns of a table with one row per group: the shared options, then the metrics."""
    columns = {
        short: [group[0].options.get(key, "") for group in groups]
        for short, key in zip(short_names(options), options, strict=True)
    }
    for name in metrics:
        values = [[job.metrics[name] for job in group if name in job.metrics] for group in groups]
        if any(values):
            digits = decimals(value for group in values for value in group)
            columns[name.removeprefix("test/")] = [_entry(group, digits) for group in values]
    return columns


def _entry(values: list[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"
