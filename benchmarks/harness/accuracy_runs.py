"""The results of the accuracy benchmark's runs, kept in a file, and the rows of a table that summarise them."""

import csv
import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from threading import Lock
from typing import Any

import torch

from harness.accuracy_tables import Run
from harness.environment import processor
from harness.json_lines import append_line, no_result, read_lines

Result = dict[str, Any]  # one line of the file


class Runs:
    """The results of runs. Each is one JSON line of a file, to which lines are appended.

    Args:
        options: of each row of each table. A line whose run had other options is ignored.
    """

    def __init__(self, path: Path, options: Mapping[tuple[str, str], list[str]]) -> None:
        self.path, self.options, self.lock = path, options, Lock()
        self.results: dict[Run, Result] = {}
        for number, line in read_lines(path):
            try:
                run, with_options = (line["table"], line["model"], line["seed"]), line["options"]
            except KeyError:
                raise no_result(path, number) from None
            if options.get(run[:2]) == with_options:
                self.results[run] = line

    def add(self, run: Run, folder: Path, minutes: float, **known: Any) -> None:
        """Append the result of the run in a folder.

        Args:
            minutes: that one core was busy.
            known: further values of the line.
        """
        table, model, seed = run
        metrics = json.loads((folder / "metrics.json").read_text())
        facts = {"date": datetime.date.today().isoformat(), "device": device(), "core_minutes": round(minutes, 1)}
        line = {"table": table, "model": model, "options": self.options[table, model], "seed": seed} | facts | metrics
        line |= {"half_turns": half_turns(folder)} | known
        with self.lock:
            self.results[run] = line
            append_line(self.path, line)
        print(f"{table}, {model}, seed {seed}: {summary([line])}", file=sys.stderr, flush=True)

    def of(self, table: str, model: str, seeds: list[int]) -> list[Result]:
        """Return the known results of the seeds."""
        return [self.results[table, model, seed] for seed in seeds if (table, model, seed) in self.results]


def summary(results: list[Result]) -> dict[str, str]:
    """Return the cells of a table's row for runs that differ in their seed."""
    row = {"test error, %": spread([test_error(each) for each in results])}
    for column, name in (("angle error", "angle"), ("less its circular mean", "angle_dispersion")):
        known = [each for each in results if f"test/{name}_mean_deg" in each]
        values = [[each[f"test/{name}_{key}_deg"] for each in known] for key in ("mean", "median")]
        row[f"{column}: mean; median (degrees)"] = "; ".join(spread(each, ".1f") for each in values if each)
    half = [each["half_turns"]["all"] for each in results if each["half_turns"]]
    row["half-turns, %"] = spread(half, ".1f") if half else ""
    row["core-minutes each"] = f"{mean(minutes):.0f}" if (minutes := core_minutes(results)) else ""
    row["device"] = ", ".join(sorted({each["device"] for each in results}))
    row["date"] = max(each["date"] for each in results)
    return row


def core_minutes(results: list[Result]) -> list[float]:
    """Return the minutes that each of the runs on a processor took one core."""
    return [each["core_minutes"] for each in results if not each["device"].startswith("NVIDIA")]


def device() -> str:
    """Return the name of the device that train.py uses."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def test_error(result: Result) -> float:
    """Return the test error of a run, in percent."""
    return float(100 * (1 - result["test/accuracy"]))


def spread(values: list[float], form: str = ".2f") -> str:
    """Write the mean, the standard deviation and each value."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    each = ", ".join(f"{value:{form}}" for value in values)
    return f"{mean(values):{form}} +- {stdev(values):{form}} ({each})"


def half_turns(folder: Path) -> dict[str, float]:
    """Return the share, in percent, of angles with an error of 180 +- 30 degrees, by class and of all."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if "angle_error_deg" not in rows[0]:
        return {}
    classes = sorted({row["class"] for row in rows})
    off = {name: [abs(float(r["angle_error_deg"])) > 150 for r in rows if r["class"] == name] for name in classes}
    shares = {name: 100 * mean(each) for name, each in off.items()}
    return shares | {"all": 100 * mean(one for each in off.values() for one in each)}
