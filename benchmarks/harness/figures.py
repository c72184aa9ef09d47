"""Figures of errors against what was spent to reach them, and of accuracy against the angle of the input."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator


def error_curve(spent: str, marks: Sequence[float]) -> tuple[Figure, Axes]:
    """Return a figure and its axes, both logarithmic: test error in percent against `spent`, with ticks at `marks`."""
    figure = Figure(figsize=(5.2, 3.8), dpi=120, layout="tight")
    axes = figure.add_subplot(xlabel=spent, ylabel="test error, %", xscale="log", yscale="log")
    axes.set_xticks(marks, [f"{mark:,g}" for mark in marks])
    axes.yaxis.set_major_locator(LogLocator(base=2))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return figure, axes


def error_by_cost(
    ours: Mapping[str, tuple[float, float, float | None]],
    published: Mapping[str, tuple[float | None, float]],
    path: Path,
) -> None:
    """Draw test errors against parameters, and those of ours also against the minutes of training.

    Args:
        ours: of each model the parameters in millions, the error in percent, and the core-minutes if known.
        published: of each model the parameters in millions, None if they are not known, and the error in percent.
    """
    figure = Figure(figsize=(10.8, 3.8), dpi=120, layout="constrained")
    by_size, by_time = figure.subplots(1, 2, sharey=True)
    for name, (size, error, minutes) in ours.items():
        (line,) = by_size.plot(size, error, "o", label=name)
        if minutes is not None:
            by_time.plot(minutes, error, "o", color=line.get_color())
    for name, (known_size, error) in published.items():
        if known_size is None:
            by_size.axhline(error, linestyle=":", color="grey", label=name)
        else:
            by_size.plot(known_size, error, "x", label=name)
    by_size.set(xlabel="parameters, millions", ylabel="test error, %", xscale="log")
    by_time.set(xlabel="core-minutes of training", xscale="log")
    for axes, marks in ((by_size, (0.05, 0.2, 1, 4)), (by_time, (10, 30, 100, 300))):
        axes.set_xticks(marks, map(str, marks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*by_size.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(path)


def accuracy_by_angle(means: Mapping[str, Sequence[float]], step_deg: int, title: str, path: Path) -> None:
    """Draw the accuracy in percent of each model against the angle of the input, in steps from 0 to 360 degrees."""
    figure = Figure(figsize=(7.2, 3.8), dpi=120, layout="tight")
    axes = figure.add_subplot(xlabel="rotation of the input (degrees)", ylabel="accuracy, %", xlim=(-180, 180))
    angles = list(range(-180, 181, step_deg))
    for name, run in means.items():
        axes.plot(angles, [run[a // step_deg % len(run)] for a in angles], "o-", markersize=3, label=name)
    axes.set_xticks(range(-180, 181, 45))
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(title, fontsize=10)
    figure.savefig(path)
