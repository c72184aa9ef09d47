"""The curves of a run over its epochs, from its CSV log or its TensorBoard log."""

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import chain

from stnrot.errors import InputError
from stnrot.regular_file import check_regular
from stnrot.report.blocks import Block, Cell, Note, Picture, Section, Table
from stnrot.report.metric import PARTS as WORDS
from stnrot.report.metric import Metric
from stnrot.report.run_folder import Run
from stnrot.report.svg import colour, data_uri, line_style, new_axes

Curve = dict[int, float]  # value by epoch, the first is 1
PARTS = ("train", "val")
MOST_PICTURES = 100
LARGEST = 1e100


def read_curves(run: Run) -> dict[str, Curve]:
    """Return the curves of training and validation by the name of the metric; none if there is no log."""
    found = _from_csv(run) or _from_tensorboard(run)
    return {name: curve for name, curve in found.items() if name.partition("/")[0] in PARTS}


def _from_csv(run: Run) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    found = (run.folder / "csv").glob("version_*/metrics.csv")  # each start of a run adds a version
    files = [path for path in found if path.is_file()]
    for path in sorted(files, key=lambda path: (len(path.parent.name), path.parent.name)):
        check_regular(path)
        try:
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = list(csv.DictReader(file))
        except csv.Error as error:
            raise InputError(f"{path} cannot be read: {error}; delete it, or take the file of the run again") from error
        for row in rows:
            for name, text in row.items():
                epoch, value = _number(row.get("epoch")), _number(text)
                if name and epoch is not None and math.isfinite(epoch) and value is not None:
                    curves.setdefault(name, {})[int(epoch) + 1] = value
    return curves


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _drawable(value: float) -> float:
    """Return a value, or NaN, which leaves a gap, for one that no metric has and no axis can show."""
    return value if abs(value) < LARGEST else math.nan


def _from_tensorboard(run: Run) -> dict[str, Curve]:
    """Read the scalars; the log has them by step, and the epoch of each step as a scalar of its own."""
    files = list((run.folder / "tensorboard").glob("events.*"))
    if not files:
        return {}
    for path in files:
        check_regular(path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"), {"scalars": 0, "images": 1, "histograms": 1})
    events.Reload()
    names = events.Tags()["scalars"]
    epochs = {event.step: event.value for event in events.Scalars("epoch")} if "epoch" in names else {}
    return {
        name: {int(epochs[event.step]) + 1: event.value for event in events.Scalars(name) if event.step in epochs}
        for name in names
    }


def epochs_of(run: Run) -> int:
    """Return the number of epochs that a run has trained."""
    return max(chain.from_iterable(read_curves(run).values()), default=0)


def metrics_so_far(run: Run) -> dict[str, float]:
    """Return the metrics of a run.

    Of one that is not finished: the best value of the monitored metric, and the newest of the other validation metrics.
    """
    if run.finished:
        return dict(run.metrics)
    curves = {name: curve for name, curve in read_curves(run).items() if name.startswith("val/") and curve}
    newest = {name: curve[max(curve)] for name, curve in curves.items()}
    monitor = run.part("monitor")
    name = str(monitor.get("metric"))
    if name in curves:
        choose = max if monitor.get("mode") == "max" else min
        newest[name] = choose((value for value in curves[name].values() if math.isfinite(value)), default=math.nan)
    return newest


def section(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Return a picture of each metric over the epochs; evaluations have none."""
    trained = [(run, name) for run, name in zip(runs, names, strict=True) if not run.evaluation]
    curves = {name: read_curves(run) for run, name in trained}
    shorts = list(dict.fromkeys(Metric(name).short for each in curves.values() for name in each))
    blocks: list[Block] = [_picture(short, curves, names) for short in shorts[:MOST_PICTURES]]
    if len(shorts) > MOST_PICTURES:
        blocks.append(Note(f"The curves of {len(shorts) - MOST_PICTURES} more metrics are left out."))
    blocks += [
        Note(
            f"No log of the epochs of {name}: it was trained with logger=null, or no epoch has ended. "
            "Without logger=null, train.py writes one."
        )
        for name, each in curves.items()
        if not each
    ]
    return Section("Curves", blocks) if trained else None


def _picture(short: str, curves: Mapping[str, Mapping[str, Curve]], names: Sequence[str]) -> Picture:
    metric = Metric(f"val/{short}")
    figure, axes = new_axes("epoch", f"{short.removesuffix('_deg')} ({metric.unit})" if metric.unit else short)
    drawn: dict[str, Curve] = {}
    parts = {part for part in PARTS if any(each.get(f"{part}/{short}") for each in curves.values())}
    lines = (
        "Thick: validation; thin and dashed: training"
        if len(parts) > 1
        else WORDS[max(parts, default="val")].capitalize()
    )
    for name, each in curves.items():
        for part, dash in zip(PARTS, ("--", "-"), strict=True):
            if not (curve := each.get(f"{part}/{short}")):
                continue
            drawn[f"{name}, {WORDS[part]}" if len(names) > 1 else WORDS[part]] = curve
            epochs, k = sorted(curve), names.index(name)
            axes.plot(
                epochs,
                [_drawable(metric.scaled(curve[epoch])) for epoch in epochs],
                linestyle=line_style(k, dash),
                linewidth=1.0 if part == "train" else 1.8,
                color=colour(k),
                marker="o" if len(epochs) < 3 else None,
                markersize=4,
                label=WORDS[part] if len(names) == 1 else name if part == "val" else None,
            )
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    rows = [
        (str(epoch), [Cell(metric.text(c[epoch]), c[epoch]) if epoch in c else Cell("") for c in drawn.values()])
        for epoch in sorted({epoch for curve in drawn.values() for epoch in curve})
    ]
    return Picture(
        data_uri(figure),
        alt=f"Line chart of the {metric.label} over the epochs",
        caption=f"{metric.label[0].upper()}{metric.label[1:]}. {lines}.",
        numbers=Table("", ["epoch", *drawn], rows),
    )
