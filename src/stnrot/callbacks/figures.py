"""Figures of an evaluation epoch, as arrays of pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

Pixels = UInt8[np.ndarray, "height width 3"]


def _figure(width: float = 4.8, height: float = 3.6) -> Figure:
    figure = Figure(figsize=(width, height), dpi=100, layout="tight")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Figure) -> Pixels:
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def angle_error_histogram(error_deg: Float[np.ndarray, "N"], what: str) -> Pixels:
    """Show the distribution of the signed error, with its summary in the title."""
    size = np.abs(error_deg)
    figure = _figure()
    axes = figure.add_subplot(xlabel=f"{what} (degrees)", ylabel="images", xlim=(-180, 180))
    axes.hist(error_deg, bins=list(range(-180, 181, 5)), color="tab:blue", histtype="stepfilled")
    axes.set_xticks(range(-180, 181, 60))
    axes.set_title(
        f"median {np.median(size):.1f}, 95th percentile {np.quantile(size, 0.95):.1f}, "
        f"within 5 degrees {np.mean(size <= 5):.0%}",
        fontsize=9,
    )
    return _pixels(figure)


def true_against_predicted(angle: Float[np.ndarray, "N"], error_deg: Float[np.ndarray, "N"]) -> Pixels:
    """Show the true angle around the circle and the error as the distance from the middle ring."""
    figure = _figure(4.2, 4.2)
    axes: Any = figure.add_subplot(projection="polar")
    axes.scatter(angle, error_deg, s=4, alpha=0.5, c=np.abs(error_deg), cmap="coolwarm", vmin=0, vmax=90)
    axes.plot(np.linspace(0, 2 * np.pi, 181), np.zeros(181), color="black", linewidth=0.8)
    axes.set_rlim(-220, 180)
    axes.set_rticks([-180, 0, 180])
    axes.set_rlabel_position(45)
    axes.tick_params(labelsize=7)
    axes.set_title("around: true angle; outwards: predicted - true (degrees)", fontsize=9)
    return _pixels(figure)


def angle_posterior(
    pictures: Sequence[Float[np.ndarray, "C H W"]],
    posterior: Float[np.ndarray, "N A"],
    angle: Float[np.ndarray, "N"] | None,
    predicted: Float[np.ndarray, "N"],
    whose: str,
) -> Pixels:
    """Show around each picture where the encoder believes `whose` top to be (blue), the choice and the truth.

    The distance from the ring is the square root of the posterior over its highest: second thoughts show.
    """
    across, ring, reach = 5, 1.5, 0.55
    rows = -(-len(pictures) // across)
    figure = _figure(9.0, 1.8 * rows + 0.4)
    axes = figure.add_subplot(aspect="equal")
    axes.axis("off")
    up = np.pi / 2 - np.arange(posterior.shape[1] + 1) * (2 * np.pi / posterior.shape[1])
    for n, picture in enumerate(pictures):
        x, y = 4.8 * (n % across), -4.8 * (n // across)
        height, width = np.array(picture.shape[1:]) / np.hypot(*picture.shape[1:]) * 1.4
        shown = picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(0)
        axes.imshow(shown.clip(0, 1), cmap="gray", extent=(x - width, x + width, y - height, y + height))
        lobe = ring + reach * np.sqrt(posterior[n] / posterior[n].max())
        lobe = np.append(lobe, lobe[0])
        for radius, colour, weight in ((lobe, "tab:blue", 1.2), (np.full_like(lobe, ring), "grey", 0.5)):
            axes.plot(x + radius * np.cos(up), y + radius * np.sin(up), color=colour, linewidth=weight)
        truth = None if angle is None else angle[n]
        for turned, colour, start in ((truth, "tab:green", ring), (predicted[n], "tab:red", ring + reach)):
            if turned is not None:
                along = np.array([start, start + 0.3])
                top = np.pi / 2 - turned
                axes.plot(x + along * np.cos(top), y + along * np.sin(top), color=colour, linewidth=2.5)
    axes.set_xlim(-2.6, 4.8 * (across - 1) + 2.6)
    axes.set_ylim(-4.8 * (rows - 1) - 2.6, 2.6)
    truth_too = "" if angle is None else ", truth (green)"
    axes.set_title(
        f"where {whose} is: root of the posterior over its highest (blue), choice (red){truth_too}", fontsize=9
    )
    return _pixels(figure)


def accuracy_by_angle(angle: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"]) -> Pixels:
    """Show the share of right classes in 15-degree bins of the input's turn, with two standard errors."""
    edges = np.arange(-180, 181, 15)
    bins = np.digitize(np.degrees(-angle), edges[1:-1])
    count = np.bincount(bins, minlength=len(edges) - 1)
    share = np.bincount(bins, weights=right, minlength=len(edges) - 1) / np.maximum(count, 1)
    spread = 2 * np.sqrt(share * (1 - share) / np.maximum(count, 1))
    seen = count > 0
    middle, share, spread = (edges[:-1] + 7.5)[seen], 100 * share[seen], 100 * spread[seen]
    figure = _figure()
    axes = figure.add_subplot(xlabel="the input was turned by (degrees)", ylabel="accuracy, %")
    axes.errorbar(middle, share, spread, fmt="o-", markersize=3, linewidth=1)
    axes.axhline(100 * right.mean(), color="grey", linewidth=0.8)
    axes.set_ylim(top=100.1 + 0.02 * (100 - share.min()))
    axes.set_xlim(middle[0] - 7.5, middle[-1] + 7.5)
    if seen.all():
        axes.set_xticks(range(-180, 181, 60))
    axes.set_title(f"accuracy {right.mean():.2%} of {len(right)}", fontsize=9)
    return _pixels(figure)


def confusion_matrix(label: Int[np.ndarray, "N"], predicted: Int[np.ndarray, "N"], classes: Sequence[str]) -> Pixels:
    """Show counts of true class (down) against predicted class (across)."""
    n = len(classes)
    classes = [name.replace("$", r"\$") for name in classes]
    counts = np.bincount(label * n + predicted, minlength=n * n).reshape(n, n)
    figure = _figure(4.2, 4.2)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if n <= 20:
        axes.set_xticks(range(n), classes, rotation=0 if max(map(len, classes)) < 3 else 90)
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
    return _pixels(figure)


def rotation_found(
    product: Float[np.ndarray, "d d"], found: Float[np.ndarray, "d"], hidden: Float[np.ndarray, "d"]
) -> Pixels:
    """Show found against hidden axes, the identity where all are found, and the heights of the curves along them."""
    figure = _figure(8.6, 3.8)
    left, right = figure.subplots(1, 2)
    shown = left.imshow(product, cmap="RdBu", vmin=-1, vmax=1)
    left.set(xlabel="hidden axis", ylabel="axis matched with it", title="cosine")
    figure.colorbar(shown, ax=left, shrink=0.8)
    right.plot([0, hidden.max() * 1.1], [0, hidden.max() * 1.1], color="grey", linewidth=0.8)
    right.plot(hidden, found, "o", markersize=4)
    right.set(xlabel="hidden height", ylabel="height found", title="the function along each axis")
    return _pixels(figure)


def errors_on_sphere(
    direction: Float[np.ndarray, "N 3"], error_deg: Float[np.ndarray, "N"], opposites: bool, what: str
) -> Pixels:
    """Show the error of each pose, as a colour, where a unit vector of it lies, as the camera sees the sphere.

    In Lambert's projection, which keeps areas: the half towards the camera (z < 0, y down) and, unless `opposites` are
    alike, the other half beside it.
    """
    flipped = opposites & (direction[:, 2:] > 0)
    x, y, z = np.where(flipped, -direction, direction).T
    scale = np.sqrt(1 / (1 + np.abs(z)))  # then the rim lies at 1
    highest = max(float(np.quantile(error_deg, 0.98)), 1e-3)
    halves = [(z <= 0, "towards the camera")] if opposites else [(z <= 0, "near half"), (z > 0, "far half")]
    figure = _figure(0.9 + 3.9 * len(halves), 4.2)
    figure.set_layout_engine("constrained")  # makes room for the colours beside both
    panels = figure.subplots(1, len(halves), squeeze=False)[0]
    for axes, (half, name) in zip(panels, halves, strict=True):
        axes.add_patch(Circle((0, 0), 1, fill=False, color="grey", linewidth=0.8))
        worst_last = np.flatnonzero(half)[error_deg[half].argsort()]
        dots = axes.scatter(
            *((each * scale)[worst_last] for each in (x, y)), c=error_deg[worst_last], s=9, vmin=0, vmax=highest
        )
        axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(1.05, -1.05), xlabel=name)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(False)
    figure.colorbar(dots, ax=list(panels), shrink=0.8, label="error (degrees)")
    figure.suptitle(f"{what}: median {np.median(error_deg):.2f}, worst {error_deg.max():.1f} degrees", fontsize=9)
    return _pixels(figure)
