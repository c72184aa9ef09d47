"""Axes for errors against what was spent to reach them."""

from collections.abc import Sequence

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
