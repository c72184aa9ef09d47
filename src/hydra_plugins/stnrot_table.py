"""A Hydra callback: end a grid of jobs with a table of them, and of each group that differs in the seed alone."""

import csv
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Job:
    """What a job left in its folder; no metrics if it did not finish."""

    folder: Path
    options: dict[str, str]
    metrics: dict[str, float]


class MultirunTable(Callback):
    """Print a row a job, then mean and deviation over the seeds; write the jobs as jobs.csv into the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """The exit status is 1 if a job did not finish."""
        folder = Path(config.hydra.sweep.dir)
        found = [path.parents[1] for path in folder.glob("*/.hydra/overrides.yaml")]
        jobs = [_read(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]
        if not jobs:
            return
        names = list(dict.fromkeys(name for job in jobs for name in job.metrics))
        _print(folder, jobs, names)
        _write(folder / "jobs.csv", jobs, names)
        if failures := sum(not job.metrics for job in jobs):
            sys.exit(f"error: {failures} of {len(jobs)} jobs did not finish, as the table says")


def _read(folder: Path) -> Job:
    overrides: Any = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
    options = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
    metrics = folder / "metrics.json"
    return Job(folder, options, json.loads(metrics.read_text()) if metrics.is_file() else {})


def _differing(jobs: list[Job]) -> list[str]:
    """Return the options in which jobs differ; of a single job all."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.options))
    return [key for key in keys if len(jobs) == 1 or len({job.options.get(key) for job in jobs}) > 1]


def _groups(jobs: list[Job], keys: list[str]) -> dict[str, list[Job]]:
    """Put the jobs that finished together with those that differ in the seed alone."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.metrics:
            groups.setdefault(_label(job, [key for key in keys if key != "seed"]), []).append(job)
    return groups


def _label(job: Job, keys: list[str]) -> str:
    return " ".join(f"{key}={job.options[key]}" for key in keys if key in job.options)


def _print(folder: Path, jobs: list[Job], names: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(folder))
    table.add_column("job", overflow="fold")
    for name in names:
        table.add_column(name.removeprefix("test/"), justify="right", overflow="fold")
    keys = _differing(jobs)
    for job in jobs:
        values = [f"{job.metrics[name]:.4f}" if name in job.metrics else "" for name in names]
        table.add_row(_label(job, keys) + ("" if job.metrics else " (did not finish)"), *values)
    table.add_section()
    for label, group in _groups(jobs, keys).items():
        if len(group) > 1:
            values = [_mean_and_deviation([job.metrics[n] for job in group if n in job.metrics]) for n in names]
            table.add_row(f"{label} ({len(group)} seeds)".strip(), *values)
    Console().print(table)


def _mean_and_deviation(values: list[float]) -> str:
    """Write the mean and the sample's standard deviation."""
    if len(values) < 2:
        return ""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def _write(path: Path, jobs: list[Job], names: list[str]) -> None:
    keys = _differing(jobs)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", *keys, *names])
        for job in jobs:
            options = [job.options.get(key, "") for key in keys]
            writer.writerow([job.folder.name, *options, *(job.metrics.get(name, "") for name in names)])
