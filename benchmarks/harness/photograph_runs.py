"""The results of the photographs benchmark, a line for each seed, and the tables over the seeds."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from harness.environment import Facts, environment
from harness.json_lines import no_result, read_lines
from harness.photograph_scores import Scores
from harness.report import Row, Table

Result = dict[str, Any]  # one line of the file
COLUMNS = {  # column: score, format
    "upright, %": ("upright", ".1f"),
    "any angle, %": ("any angle", ".1f"),
    "below the network, points": ("below the network", ".1f"),
    "within 45 degrees, %": ("within 45", ".1f"),
    "within 5 degrees, %": ("within 5", ".1f"),
    "median error, degrees": ("median", ".1f"),
    "turned wrongly, %": ("turned wrongly", ".2f"),
    "left as they are, %": ("left", ".1f"),
    "min_confidence": ("min_confidence", ".3f"),
    "parameters": ("parameters", ",.0f"),
}
KEYS = {"seed", "date", "device", "environment", "pictures", "scores", "curves", "ms"}


def result_of_seed(
    seed: int,
    pictures: int,
    device: str,
    scores: Mapping[str, Scores],
    curves: Mapping[str, list[float]],
    ms: Mapping[str, float],
) -> Result:
    """Return the line of a seed: the scores of each method, its accuracy by angle, and its milliseconds a picture."""
    facts = {"seed": seed, "date": datetime.date.today().isoformat(), "device": device, "pictures": pictures}
    return {**facts, "environment": environment(device), "scores": scores, "curves": curves, "ms": ms}


def known_results(path: Path, pictures: int) -> dict[int, Result]:
    """Return the results by seed, those with as many pictures."""
    results = {}
    for number, line in read_lines(path):
        if not line.keys() >= KEYS:
            raise no_result(path, number)
        if line["pictures"] == pictures:
            results[line["seed"]] = line
    return results


def facts_of(results: Sequence[Result]) -> Facts:
    """Return what the figures depend on, and where each seed was measured."""
    environments = [each["environment"] for each in results]
    shared: Facts = {key: ", ".join(sorted({str(each[key]) for each in environments})) for key in environments[0]}
    where = {f"seed {each['seed']}": f"{each['environment']['cpu']}, {each['date']}" for each in results}
    return shared | {"pictures": results[0]["pictures"]} | where


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the tables of the methods that were measured with every seed."""
    first, *others = results
    names = [name for name in first["scores"] if all(name in each["scores"] for each in others)]
    rows = [_row(name, results) for name in names]
    curves = mean_curves(results)
    steps = range(len(next(iter(curves.values()))))
    by_angle: list[Row] = [
        {"degrees": 360 * k // len(steps)} | {name: f"{curve[k]:.1f}" for name, curve in curves.items()} for k in steps
    ]
    titles = "photographs of CIFAR-10", "accuracy by angle of the input, %"
    return [Table(title, each) for title, each in zip(titles, (rows, by_angle), strict=True)]


def mean_curves(results: Sequence[Result]) -> dict[str, list[float]]:
    """Return the accuracy by angle of each method that was measured with every seed."""
    first, *others = results
    names = [name for name in first["curves"] if all(name in each["curves"] for each in others)]
    return {
        name: [mean(each) for each in zip(*(run["curves"][name] for run in results), strict=True)] for name in names
    }


def _row(name: str, results: Sequence[Result]) -> Row:
    scores = [each["scores"][name] for each in results]
    cells = {column: _over_seeds([each[score] for each in scores], form) for column, (score, form) in COLUMNS.items()}
    minutes, ms = [each["core-minutes"] for each in scores], [each["ms"][name] for each in results]
    cells["core-minutes"] = ", ".join("unknown" if each is None else f"{each:.0f}" for each in minutes)
    cells["ms a picture"] = ", ".join(f"{each:.2f}" for each in ms)
    devices = ", ".join(sorted({each["device"] for each in results}))
    return {"method": name, **cells, "device": devices}


def _over_seeds(values: Sequence[float | None], form: str) -> str | None:
    """Write the mean, the standard deviation and each value; None if a value is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    shown = f"{mean(known):{form}}"
    if len(set(known)) == 1:
        return shown
    return f"{shown} +- {stdev(known):{form}} ({', '.join(f'{value:{form}}' for value in known)})"
