"""What runs of the accuracy benchmark found: kept in a file, and put together into rows of a table."""

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

Run = tuple[str, str, int]  # table, row, seed
Found = dict[str, Any]


class Runs:
    """What runs found, a line each in a file that only grows: a run that has a line is not run again.

    `options` are those of each row of each table; a line that was found with others counts for nothing.
    """

    def __init__(self, path: Path, options: Mapping[tuple[str, str], list[str]]) -> None:
        if not path.absolute().parent.is_dir():
            raise SystemExit(f"{path}: expected a file in a folder that exists")
        self.path, self.options, self.lock = path, options, Lock()
        self.found: dict[Run, Found] = {}
        for number, text in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
            try:
                line = json.loads(text)
                run, with_options = (line["table"], line["model"], line["seed"]), line["options"]
            except (json.JSONDecodeError, TypeError, KeyError):
                raise SystemExit(f"{path}, line {number}: expected what a run found; if cut off, delete it") from None
            if options.get(run[:2]) == with_options:
                self.found[run] = line

    def add(self, run: Run, folder: Path, minutes: float, **known: Any) -> None:
        """Write down what lies in the folder of a run, and what else is known of it."""
        table, model, seed = run
        metrics = json.loads((folder / "metrics.json").read_text())
        facts = {"date": datetime.date.today().isoformat(), "device": device(), "core_minutes": round(minutes, 1)}
        line = {"table": table, "model": model, "options": self.options[table, model], "seed": seed} | facts | metrics
        line |= {"half_turns": half_turns(folder)} | known
        with self.lock:
            self.found[run] = line
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(f"{table}, {model}, seed {seed}: {summary([line])}", file=sys.stderr, flush=True)

    def of(self, table: str, model: str, seeds: list[int]) -> list[Found]:
        """Return what is known of the seeds."""
        return [self.found[table, model, seed] for seed in seeds if (table, model, seed) in self.found]


def summary(found: list[Found]) -> dict[str, Any]:
    """Return the row of a table: what the runs, one a seed, found."""
    row = {"test error, %": spread([test_error(each) for each in found])}
    for column, name in (("angle error", "angle"), ("less its circular mean", "angle_dispersion")):
        known = [each for each in found if f"test/{name}_mean_deg" in each]
        values = [[each[f"test/{name}_{key}_deg"] for each in known] for key in ("mean", "median")]
        row[f"{column}: mean; median (degrees)"] = "; ".join(spread(each, ".1f") for each in values if each)
    turned = [each["half_turns"]["all"] for each in found if each["half_turns"]]
    row["half-turns, %"] = spread(turned, ".1f") if turned else ""
    on_cpu = [each["core_minutes"] for each in found if each["device"] == "cpu"]
    row["core-minutes each"] = f"{mean(on_cpu):.0f}" if on_cpu else ""
    row["on a GPU"] = ", ".join(sorted({each["device"] for each in found if each["device"] != "cpu"}))
    return row


def device() -> str:
    """Return what train.py runs on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def test_error(found: Found) -> float:
    """Return the error of a run, in percent."""
    return float(100 * (1 - found["test/accuracy"]))


def spread(values: list[float], form: str = ".2f") -> str:
    """Write the mean, the deviation over the seeds, and each."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    each = ", ".join(f"{value:{form}}" for value in values)
    return f"{mean(values):{form}} +- {stdev(values):{form}} ({each})"


def half_turns(folder: Path) -> dict[str, float]:
    """Return the share, in percent, of angles that are off by 180 +- 30 degrees: by class and of all."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if "angle_error_deg" not in rows[0]:
        return {}
    classes = sorted({row["class"] for row in rows})
    off = {name: [abs(float(r["angle_error_deg"])) > 150 for r in rows if r["class"] == name] for name in classes}
    shares = {name: 100 * mean(each) for name, each in off.items()}
    return shares | {"all": 100 * mean(one for each in off.values() for one in each)}
