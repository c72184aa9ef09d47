"""The first sections: what ran, its numbers, and the options by which several runs differ."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from stnrot.report.blocks import Cell, Note, Section, Table
from stnrot.report.curves import epochs_of, metrics_so_far
from stnrot.report.metric import PARTS, Metric
from stnrot.report.run_folder import Run

UNKNOWN = Cell("not recorded")
NONE = Cell("\N{EN DASH}")
DERIVED = ("default_root_dir", "plugins", "image_shape", "_partial_")  # follow from other options
COMPARED = ("seed", "data", "model", "task", "monitor", "trainer", "start_from")  # parts of the configuration


def what_ran(runs: Sequence[Run]) -> Section:
    """Return the facts about each run: folder, command, state, versions, device, time, seed."""
    facts = [_facts(run) for run in runs]
    rows = [(name, [each[name] for each in facts]) for name in facts[0]]
    notes = [Note(*_to_finish(run, names)) for run, names in zip(runs, names_of(runs), strict=True) if not run.finished]
    return Section("Runs" if len(runs) > 1 else "Run", [Table("", ["", *names_of(runs)], rows), *notes])


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs on the page."""
    return [f"run {number + 1}" for number in range(len(runs))] if len(runs) > 1 else ["this run"]


def numbers(runs: Sequence[Run]) -> Section:
    """Return the metrics of all runs side by side. The best of several runs is marked, if they share the data."""
    measured = [metrics_so_far(run) for run in runs]
    names = sorted(dict.fromkeys(chain.from_iterable(measured)), key=lambda name: not name.startswith("val/"))
    same_data = len({str(run.config.get("data")) for run in runs}) == 1
    rows = []
    for metric in map(Metric, names):
        values = [each.get(metric.name) for each in measured]
        best = _best(metric, values) if same_data or metric.part != "test" else None
        cells = [NONE if v is None else Cell(metric.text(v), v, best is not None and v == best) for v in values]
        rows.append((f"{PARTS.get(metric.part, metric.part)}: {metric.label}", cells))
    blocks: list[Any] = [Table("Metrics", ["", *names_of(runs)], rows)] if rows else [Note("There are no metrics yet.")]
    if len({run.task for run in runs}) > 1:
        blocks.append(Note("The runs have different tasks: only metrics of the same name can be compared."))
    if not same_data:
        blocks.append(Note("The runs have different data: their test metrics are not of the same images."))
    elif len(runs) > 1:
        blocks.append(Note("Compare runs by the validation metric, not by the test. The best of a row is bold."))
    return Section("Numbers", blocks)


def differences(runs: Sequence[Run]) -> Section | None:
    """Return the options by which several runs differ; None for a single run, or if one did not record its options.

    An option that only some of the classes have is left out: the table has the classes.
    """
    if len(runs) < 2 or not all(run.config.get("model") for run in runs):
        return None
    known = [dict(_leaves({part: run.config.get(part) for part in COMPARED}, "")) for run in runs]
    shared = [name for name in dict.fromkeys(chain.from_iterable(known)) if _is_class(name) or _in_all(name, known)]
    rows = [
        (name.removesuffix("._target_"), [_option(name, each) for each in known])
        for name in shared
        if len({str(each.get(name)) for each in known}) > 1
    ]
    if not rows:
        return Section("Options that differ", [Note("None: the runs have the same options.")])
    return Section("Options that differ", [Table("", ["", *names_of(runs)], rows)])


def _facts(run: Run) -> dict[str, Cell]:
    found = run.environment
    commit = f", commit {found['commit']}" if found.get("commit") else ""
    minutes = found.get("minutes")
    tested = run.config.get("ckpt")
    return {
        "folder": Cell(str(run.folder)),
        "command": UNKNOWN if run.command is None else Cell(run.command),
        "state": Cell("finished" if run.finished else "not finished"),
        "task": Cell(f"evaluation of {', '.join(map(str, tested))}" if tested else run.task or "evaluation"),
        "model": Cell(run.target("model")) if run.config else UNKNOWN,
        "data": Cell(run.target("data")) if run.config else UNKNOWN,
        "epochs": NONE if run.evaluation else Cell(f"{epochs_of(run)} of {_epochs_in_all(run)}"),
        "seed": Cell(str(run.config["seed"])) if "seed" in run.config else UNKNOWN,
        "stnrot": Cell(f"{found['stnrot']}{commit}") if "stnrot" in found else UNKNOWN,
        "torch": Cell(str(found["torch"])) if "torch" in found else UNKNOWN,
        "device": Cell(str(found["device"])) if "device" in found else UNKNOWN,
        "started": Cell(str(found["started"])) if "started" in found else UNKNOWN,
        "time": Cell(_duration(minutes), minutes) if isinstance(minutes, float | int) else UNKNOWN,
    }


def _duration(minutes: float) -> str:
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"


def _epochs_in_all(run: Run) -> str:
    return str(run.part("trainer").get("max_epochs", "?"))


def _to_finish(run: Run, name: str) -> tuple[str, str]:
    last = run.folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return f"Not finished, no checkpoint: {name}. Its numbers are those of the validation so far.", ""
    resume = shlex.join(["stnrot", "train", f"resume={run.folder}"])
    return f"Not finished: {name}. Its numbers are those of the validation so far. To resume it:", resume


def _best(metric: Metric, values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    if len(found) < 2 or metric.more_is_better is None or len(set(found)) == 1:
        return None
    return max(found) if metric.more_is_better else min(found)


def _is_class(name: str) -> bool:
    return name.endswith("._target_")


def _in_all(name: str, known: Sequence[Mapping[str, Any]]) -> bool:
    return all(name in each for each in known)


def _option(name: str, known: Mapping[str, Any]) -> Cell:
    if name not in known:
        return NONE
    return Cell(str(known[name]).rpartition(".")[2] if _is_class(name) else str(known[name]))


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, child in node.items():
            if key not in DERIVED:
                yield from _leaves(child, f"{path}.{key}".lstrip("."))
    else:
        yield path, node
