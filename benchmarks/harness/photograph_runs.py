"""The results of the photographs benchmark, a line for each seed, and the tables over the seeds."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from harness.accuracy_runs import spread
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
KEYS = {"seed", "date", "device", "environment", "budget", "parts", "scores", "curves", "ms"}


def result_of_seed(
    seed: int,
    budget: Mapping[str, Any],
    parts: Sequence[str],
    device: str,
    scores: Mapping[str, Scores],
    curves: Mapping[str, list[float]],
    ms: Mapping[str, float],
) -> Result:
    """Return the line of a seed: the scores of each method, its accuracy by angle, and its milliseconds a picture.

    Args:
        budget: what the figures depend on besides the seed; only results of one budget are compared.
        parts: the trained parts that the methods are made of.
    """
    facts = {"seed": seed, "date": datetime.date.today().isoformat(), "device": device, "budget": dict(budget)}
    measured = {"parts": list(parts), "scores": scores, "curves": curves, "ms": ms}
    return {**facts, "environment": environment(device), **measured}


def known_results(path: Path, budget: Mapping[str, Any], parts: Sequence[str]) -> dict[int, Result]:
    """Return the newest result of each seed, of those with this budget and at least these parts."""
    results = {}
    for number, line in read_lines(path):
        if not line.keys() >= KEYS:
            raise no_result(path, number)
        if line["budget"] == budget and {*line["parts"]} >= {*parts}:
            results[line["seed"]] = line
    return results


def facts_of(results: Sequence[Result]) -> Facts:
    """Return what the figures depend on, and where each seed was measured."""
    environments = [each["environment"] for each in results]
    keys = dict.fromkeys(key for each in environments for key in each)
    shared: Facts = {key: ", ".join(sorted({str(each[key]) for each in environments if key in each})) for key in keys}
    where = {f"seed {each['seed']}": f"{each['environment']['cpu']}, {each['date']}" for each in results}
    return shared | {"pictures": results[0]["budget"]["pictures"]} | where


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the tables of the methods that were measured with every seed."""
    rows = [_row(name, results) for name in _shared(results, "scores")]
    curves = mean_curves(results)
    steps = range(len(next(iter(curves.values()))))
    by_angle: list[Row] = [
        {"degrees": 360 * k // len(steps)} | {name: f"{curve[k]:.1f}" for name, curve in curves.items()} for k in steps
    ]
    return [Table("photographs of CIFAR-10", rows), Table("accuracy by angle of the input, %", by_angle)]


def mean_curves(results: Sequence[Result]) -> dict[str, list[float]]:
    """Return the accuracy by angle of each method that was measured with every seed."""
    return {
        name: [mean(each) for each in zip(*(run["curves"][name] for run in results), strict=True)]
        for name in _shared(results, "curves")
    }


def _shared(results: Sequence[Result], key: str) -> list[str]:
    first, *others = results
    return [name for name in first[key] if all(name in each[key] for each in others)]


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
    return f"{known[0]:{form}}" if len({*known}) == 1 else spread(known, form)
