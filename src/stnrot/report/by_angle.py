"""Accuracy and angle error against the rotation of the input, and the distribution of the angle error."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from stnrot.report.blocks import Block, Cell, Picture, Section, Table
from stnrot.report.predictions import Predictions
from stnrot.report.svg import colour, data_uri, line_style, new_axes

WIDTH = 15  # degrees
EDGES = np.arange(-180, 181, WIDTH)
LEVELS = (1, 2, 5, 10, 20, 45, 90, 180)  # degrees
LEAST = 0.1  # degrees; where the axis of the distribution begins


def bin_of(rotation_deg: Float[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Return the bin of each rotation; bin 0 begins at -180 degrees."""
    return np.digitize(rotation_deg, EDGES[1:-1])


def accuracy_in_bins(
    rotation_deg: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"]
) -> tuple[Int[np.ndarray, "bins"], Float[np.ndarray, "bins"]]:
    """Return the number of images in each bin and the share of right ones, NaN in an empty bin."""
    place, bins = bin_of(rotation_deg), len(EDGES) - 1
    count = np.bincount(place, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return count, np.where(count > 0, hits / np.maximum(count, 1), np.nan)


def section(found: Mapping[str, Predictions], names: Sequence[str]) -> Section | None:
    """Return the pictures of all runs that know the true angle of each image."""
    known = {name: each for name, each in found.items() if each.rotation_deg is not None}
    blocks: list[Block] = []
    if any(each.right is not None for each in known.values()):
        blocks.append(_accuracy(known, names))
    if any(each.error_deg is not None for each in known.values()):
        blocks += [_error(known, names), _distribution(known, names)]
    return Section("By angle", blocks) if blocks else None


def _accuracy(known: Mapping[str, Predictions], names: Sequence[str]) -> Picture:
    figure, axes = new_axes("rotation of the input (degrees)", "accuracy (%)")
    columns: dict[str, list[Cell]] = {}
    for name, each in known.items():
        if each.rotation_deg is None or each.right is None:
            continue
        count, share = accuracy_in_bins(each.rotation_deg, each.right)
        spread = 2 * np.sqrt(share * (1 - share) / np.maximum(count, 1))
        _line(axes, name, names, 100 * share, 100 * spread)
        columns[f"{name}, images"] = [Cell(str(n), int(n)) for n in count]
        columns[f"{name}, accuracy"] = [
            Cell(f"{v:.2%}" if n else "", float(v)) for n, v in zip(count, share, strict=True)
        ]
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 102))
    return Picture(
        data_uri(figure),
        alt="Line chart of the accuracy against the rotation of the input",
        caption="Accuracy by angle, in bins of 15 degrees. The bars are two standard errors.",
        numbers=_table(columns),
    )


def _error(known: Mapping[str, Predictions], names: Sequence[str]) -> Picture:
    figure, axes = new_axes("rotation of the input (degrees)", "median angle error (degrees)")
    columns: dict[str, list[Cell]] = {}
    for name, each in known.items():
        if each.rotation_deg is None or each.error_deg is None:
            continue
        place, size = bin_of(each.rotation_deg), np.abs(each.error_deg)
        median = np.array(
            [np.median(size[place == k]) if (place == k).any() else np.nan for k in range(len(EDGES) - 1)]
        )
        _line(axes, name, names, median)
        columns[f"{name}, median error"] = [Cell("" if np.isnan(v) else f"{v:.2f}°", float(v)) for v in median]
    axes.set_ylim(bottom=0)
    return Picture(
        data_uri(figure),
        alt="Line chart of the median angle error against the rotation of the input",
        caption=f"Median angle error by angle, in bins of 15 degrees.{_less_mean(known)}",
        numbers=_table(columns),
    )


def _distribution(known: Mapping[str, Predictions], names: Sequence[str]) -> Picture:
    figure, axes = new_axes("angle error (degrees)", "images with at most this error (%)")
    columns: dict[str, list[Cell]] = {}
    for name, each in known.items():
        if each.error_deg is None:
            continue
        size = np.sort(np.abs(each.error_deg))
        share = np.arange(1, len(size) + 1) / len(size)
        k = names.index(name)
        axes.plot(
            np.maximum(size, LEAST),
            100 * share,
            linestyle=line_style(k),
            color=colour(k),
            drawstyle="steps-post",
            label=name,
        )
        columns[name] = [Cell(f"{np.mean(size <= level):.2%}", float(np.mean(size <= level))) for level in LEVELS]
    axes.set_xscale("log")
    axes.set_xlim(LEAST, 180)
    axes.set_xticks([0.1, 1, 5, 45, 180], ["0.1", "1", "5", "45", "180"])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    if len(names) > 1:
        axes.legend()
    rows = [(f"within {level}°", [cells[k] for cells in columns.values()]) for k, level in enumerate(LEVELS)]
    return Picture(
        data_uri(figure),
        alt="Cumulative distribution of the angle error",
        caption=f"Share of images whose angle error is at most the value below.{_less_mean(known)}",
        numbers=Table("", ["error", *columns], rows),
    )


def _line(
    axes: Any,
    name: str,
    names: Sequence[str],
    values: Float[np.ndarray, "bins"],
    spread: Float[np.ndarray, "bins"] | None = None,
) -> None:
    k = names.index(name)
    seen = ~np.isnan(values)  # so that the line crosses empty bins
    axes.errorbar(
        (EDGES[:-1] + WIDTH / 2)[seen],
        values[seen],
        None if spread is None else spread[seen],
        linestyle=line_style(k),
        color=colour(k),
        marker="o",
        markersize=3,
        elinewidth=0.8,
        label=name,
    )
    axes.set_xticks(range(-180, 181, 60))
    if len(names) > 1:
        axes.legend()


def _table(columns: Mapping[str, Sequence[Cell]]) -> Table:
    bins = [f"{low}° to {low + WIDTH}°" for low in EDGES[:-1]]
    return Table("", ["rotation", *columns], [(each, [c[k] for c in columns.values()]) for k, each in enumerate(bins)])


def _less_mean(known: Mapping[str, Predictions]) -> str:
    relative = any(each.relative for each in known.values())
    return (
        " The circular mean of the errors is subtracted: the run was trained without known angles." if relative else ""
    )
