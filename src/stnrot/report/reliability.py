"""The reliability diagram: is a class with 90 % probability right in 90 % of cases?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stnrot.report.blocks import Cell, Picture, Section, Table
from stnrot.report.predictions import Predictions
from stnrot.report.svg import INK, colour, data_uri, line_style, new_axes

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Number of images, mean confidence and share of right images in bins of the confidence; NaN in an empty bin."""

    count: Int[np.ndarray, "bins"]
    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]

    @property
    def calibration_error(self) -> float:
        """Mean of |confidence - accuracy|, weighted by the number of images in each bin.

        Source: C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural Networks, 2017.
        """
        seen = self.count > 0
        gap = np.abs(self.confidence - self.accuracy)[seen]
        return float((gap * self.count[seen]).sum() / self.count.sum())


def reliability(confidence: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"], bins: int = BINS) -> Reliability:
    """Return the reliability in bins of equal width of [0, 1]."""
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=each, minlength=bins) for each in (confidence, right)]
    mean, share = (np.where(count > 0, each / np.maximum(count, 1), np.nan) for each in sums)
    return Reliability(count, mean, share)


def section(found: Mapping[str, Predictions], names: Sequence[str]) -> Section | None:
    """Return the diagram of all runs that predict a class."""
    figure, axes = new_axes("confidence (%)", "accuracy (%)", height=3.8)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    columns: dict[str, list[Cell]] = {}
    errors = []
    for name, each in found.items():
        if each.confidence is None or each.right is None:
            continue
        k, here = names.index(name), reliability(each.confidence, each.right)
        seen = here.count > 0
        accuracy, count = here.accuracy[seen], here.count[seen]
        axes.errorbar(
            100 * here.confidence[seen],
            100 * accuracy,
            200 * np.sqrt(accuracy * (1 - accuracy) / count),
            linestyle=line_style(k),
            color=colour(k),
            marker="o",
            markersize=4,
            elinewidth=0.8,
            label=name,
        )
        cells = list(zip(here.count, here.confidence, here.accuracy, strict=True))
        columns[f"{name}, images"] = [Cell(str(n), int(n)) for n, _, _ in cells]
        columns[f"{name}, mean confidence"] = [Cell(f"{c:.2%}" if n else "", float(c)) for n, c, _ in cells]
        columns[f"{name}, accuracy"] = [Cell(f"{a:.2%}" if n else "", float(a)) for n, _, a in cells]
        errors.append(f"{name} {here.calibration_error:.2%}")
    if not errors:
        return None
    axes.set(xlim=(0, 101), ylim=(0, 102))
    if len(names) > 1:
        axes.legend()
    bins = [f"{k / BINS:.0%} to {(k + 1) / BINS:.0%}" for k in range(BINS)]
    rows = [(each, [c[k] for c in columns.values()]) for k, each in enumerate(bins)]
    picture = Picture(
        data_uri(figure),
        alt="Line chart of the accuracy against the confidence, with the diagonal of a calibrated model",
        caption="Accuracy of the images in ten bins of the confidence, with bars of two standard errors. Below the "
        "dotted diagonal a model is too sure, above it not sure enough. Expected calibration error: "
        f"{', '.join(errors)}.",
        numbers=Table("", ["confidence", *columns], rows),
    )
    return Section("Reliability", [picture])
