"""Draw figures of angles and classes, as arrays of pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

Pixels = UInt8[np.ndarray, "height width 3"]
Margins = tuple[float, float, float, float]

PLOT: Margins = (0.15, 0.14, 0.97, 0.92)  # of axes with labels and a title
AT_ITS_PLACE = 1.0  # height of a title; without it, matplotlib measures all texts to find one


def new_figure(width: float = 4.8, height: float = 3.6, margins: Margins | None = None) -> Figure:
    """Return an empty figure.

    Args:
        width: in units of 100 pixels.
        height: in units of 100 pixels.
        margins: left, bottom, right and top of the axes, as shares of the figure; None measures the texts, which takes
            as long as drawing them.
    """
    figure = Figure(figsize=(width, height), dpi=100)
    figure.set_layout_engine("tight" if margins is None else "none")
    if margins is not None:
        figure.subplots_adjust(*margins)
    FigureCanvasAgg(figure)
    return figure


def to_pixels(figure: Figure) -> Pixels:
    """Render a figure."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def angle_error_histogram(error_deg: Float[np.ndarray, "N"], what: str) -> Pixels:
    """Draw a histogram of the signed error; the title has median, 95th percentile and share within 5 degrees."""
    size = np.abs(error_deg)
    figure = new_figure(margins=PLOT)
    axes = figure.add_subplot(xlabel=f"{what} (degrees)", ylabel="images", xlim=(-180, 180))
    axes.hist(error_deg, bins=list(range(-180, 181, 5)), color="tab:blue", histtype="stepfilled")
    axes.set_xticks(range(-180, 181, 60))
    axes.set_title(
        f"median {np.median(size):.1f}, 95th percentile {np.quantile(size, 0.95):.1f}, "
        f"within 5 degrees {np.mean(size <= 5):.0%}",
        fontsize=9,
        y=AT_ITS_PLACE,
    )
    return to_pixels(figure)


def true_against_predicted(angle: Float[np.ndarray, "N"], error_deg: Float[np.ndarray, "N"]) -> Pixels:
    """Draw each sample at its true angle (radians); the distance from the black ring is the signed error."""
    figure = new_figure(4.2, 4.2, margins=(0.1, 0.08, 0.9, 0.88))
    axes: Any = figure.add_subplot(projection="polar")
    axes.scatter(angle, error_deg, s=4, alpha=0.5, c=np.abs(error_deg), cmap="coolwarm", vmin=0, vmax=90)
    axes.plot(np.linspace(0, 2 * np.pi, 181), np.zeros(181), color="black", linewidth=0.8)
    axes.set_rlim(-220, 180)
    axes.set_rticks([-180, 0, 180])
    axes.set_rlabel_position(45)
    axes.tick_params(labelsize=7)
    axes.set_title("angle: true angle; radius: predicted - true angle (degrees)", fontsize=9, y=1.07)
    return to_pixels(figure)


def angle_posterior(
    images: Sequence[Float[np.ndarray, "C H W"]],
    posterior: Float[np.ndarray, "N A"],
    angle: Float[np.ndarray, "N"] | None,
    predicted: Float[np.ndarray, "N"],
    what: str,
) -> Pixels:
    """Draw around each image the posterior (blue), the predicted angle (red) and the true angle (green).

    An angle is drawn as the direction in which the top of the reference lies in the image. The distance of the blue
    curve from the ring is the square root of the posterior, divided by its maximum; the root makes small peaks visible.

    Args:
        posterior: probability of A equal bins of the circle, bin i at `2 pi i / A`.
        angle: true angles in radians, None if unknown.
        predicted: predicted angles in radians.
        what: name of the drawn direction, for the title.
    """
    across, ring, reach = 5, 1.5, 0.55
    curves: dict[tuple[str, float], list[Any]] = {}  # of one colour and width, which are one artist
    rows = -(-len(images) // across)
    tall = 1.8 * rows + 0.4
    figure = new_figure(9.0, tall, margins=(0.01, 0.02, 0.99, 1 - 0.35 / tall))
    axes = figure.add_subplot(aspect="equal")
    axes.axis("off")
    up = np.pi / 2 - np.arange(posterior.shape[1] + 1) * (2 * np.pi / posterior.shape[1])
    for n, image in enumerate(images):
        x, y = 4.8 * (n % across), -4.8 * (n // across)
        height, width = np.array(image.shape[1:]) / np.hypot(*image.shape[1:]) * 1.4
        shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)
        axes.imshow(shown.clip(0, 1), cmap="gray", extent=(x - width, x + width, y - height, y + height))
        lobe = ring + reach * np.sqrt(posterior[n] / posterior[n].max())
        lobe = np.append(lobe, lobe[0])
        for radius, colour, weight in ((lobe, "tab:blue", 1.2), (np.full_like(lobe, ring), "grey", 0.5)):
            curve = np.stack((x + radius * np.cos(up), y + radius * np.sin(up)), 1)
            curves.setdefault((colour, weight), []).append(curve)
        true = None if angle is None else angle[n]
        for marked, colour, start in ((true, "tab:green", ring), (predicted[n], "tab:red", ring + reach)):
            if marked is not None:
                along = np.array([start, start + 0.3])
                top = np.pi / 2 - marked
                mark = np.stack((x + along * np.cos(top), y + along * np.sin(top)), 1)
                curves.setdefault((colour, 2.5), []).append(mark)
    for (colour, weight), lines in curves.items():
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=weight), autolim=False)
    axes.set_xlim(-2.6, 4.8 * (across - 1) + 2.6)
    axes.set_ylim(-4.8 * (rows - 1) - 2.6, 2.6)
    known = "" if angle is None else ", ground truth (green)"
    axes.set_title(f"{what}: root of posterior / maximum (blue), prediction (red){known}", fontsize=9, y=AT_ITS_PLACE)
    return to_pixels(figure)


def accuracy_by_angle(angle: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"]) -> Pixels:
    """Draw the share of correctly classified images in bins of 15 degrees of the input's rotation.

    The bars are two standard errors. The rotation of an input is the negative of its `angle` (radians), which undoes
    it.
    """
    edges = np.arange(-180, 181, 15)
    bins = np.digitize(np.degrees(-angle), edges[1:-1])
    count = np.bincount(bins, minlength=len(edges) - 1)
    share = np.bincount(bins, weights=right, minlength=len(edges) - 1) / np.maximum(count, 1)
    spread = 2 * np.sqrt(share * (1 - share) / np.maximum(count, 1))
    seen = count > 0
    middle, share, spread = (edges[:-1] + 7.5)[seen], 100 * share[seen], 100 * spread[seen]
    figure = new_figure(margins=PLOT)
    axes = figure.add_subplot(xlabel="rotation of the input (degrees)", ylabel="accuracy, %")
    axes.errorbar(middle, share, spread, fmt="o-", markersize=3, linewidth=1)
    axes.axhline(100 * right.mean(), color="grey", linewidth=0.8)
    axes.set_ylim(top=100.1 + 0.02 * (100 - share.min()))
    axes.set_xlim(middle[0] - 7.5, middle[-1] + 7.5)
    if seen.all():
        axes.set_xticks(range(-180, 181, 60))
    axes.set_title(f"accuracy {right.mean():.2%} of {len(right)}", fontsize=9, y=AT_ITS_PLACE)
    return to_pixels(figure)


def confusion_matrix(label: Int[np.ndarray, "N"], predicted: Int[np.ndarray, "N"], classes: Sequence[str]) -> Pixels:
    """Draw the number of samples of each true class (row) and predicted class (column)."""
    n = len(classes)
    classes = [name.replace("$", r"\$") for name in classes]
    counts = np.bincount(label * n + predicted, minlength=n * n).reshape(n, n)
    short = n > 20 or max(map(len, classes)) < 3  # n > 20: numbers instead of names
    figure = new_figure(4.2, 4.2, margins=(0.14, 0.12, 0.97, 0.95) if short else None)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if n <= 20:
        axes.set_xticks(range(n), classes, rotation=0 if short else 90)
        axes.set_yticks(range(n), classes)
        for i, j in zip(*counts.nonzero(), strict=True):
            dark = counts[i, j] > 0.5 * counts[i].sum()
            axes.text(
                j,
                i,
                str(counts[i, j]),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    return to_pixels(figure)
