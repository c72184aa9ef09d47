"""Figures of estimated poses after every validation epoch and after the test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Circle
from torch import Tensor

from stnrot.callbacks.figures import Pixels, new_figure, to_pixels
from stnrot.callbacks.image_grid import Cell, draw_grid
from stnrot.callbacks.prediction_collector import PredictionCollector
from stnrot.callbacks.save_figures import save_figures
from stnrot.data.rendered import Views
from stnrot.data.rng import Purpose, Split, permutation
from stnrot.errors import check_number
from stnrot.models.outputs import PoseEstimate

TITLES = ("target", "estimate", "difference")


@dataclass(frozen=True)
class PoseRows:
    """One row a sample: true rotation matrix, estimated angles (radians), error of the pose."""

    index: np.ndarray
    rotation: np.ndarray
    angles: np.ndarray
    error_deg: np.ndarray


@dataclass(frozen=True)
class PoseSample:
    """The target image, and the solid rendered at the estimated pose."""

    index: int
    target: np.ndarray
    rendered: np.ndarray


class PoseFigures(PredictionCollector):
    """Draw target, estimate and difference of a fixed sample, and the errors of the whole set on the sphere.

    Args:
        folder: receives `epoch_007/poses.png`, `epoch_007/sphere.png` and so on, and `test/`.
        samples: number of images in `poses.png`.
    """

    record = PoseEstimate

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        check_number("samples", samples, 1)
        self.folder, self.samples = Path(folder), samples

    def rows_of(self, prediction: PoseEstimate, batch: Views) -> PoseRows:
        """Return the rows of a batch."""
        return PoseRows(
            index=batch.index.cpu().numpy(),
            rotation=batch.rotation.cpu().numpy(),
            angles=prediction.angles.cpu().numpy(),
            error_deg=prediction.error.rad2deg().cpu().numpy(),
        )

    def shown_of(self, trainer: L.Trainer, part: str, prediction: PoseEstimate, batch: Views) -> list[PoseSample]:
        """Return the samples of a batch that are drawn, each rendered at its estimate."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        chosen = permutation((data.split_seed, Purpose.SHOWN), data.count[Split[part.upper()]])[: self.samples]
        mine = torch.isin(batch.index, chosen.to(batch.index.device))
        rendered = data.render(prediction.rotation[mine], prediction.rotation.new_zeros(int(mine.sum()), 2))
        images = (batch.image[mine].float().cpu().numpy(), rendered.cpu().numpy())
        return [
            PoseSample(index=index, target=target, rendered=estimate)
            for index, target, estimate in zip(batch.index[mine].tolist(), *images, strict=True)
        ]

    def finish(self, trainer: L.Trainer, task: Any, part: str, rows: PoseRows, shown: list[PoseSample]) -> None:
        """Draw the two figures."""
        rotation, symmetry = torch.from_numpy(rows.rotation), task.model.symmetry
        true = task.model.euler(symmetry.encode(rotation))  # of poses that look the same, the one that a model returns
        row_of = {int(index): k for k, index in enumerate(rows.index)}
        cells = []
        for sample in shown:
            k = row_of[sample.index]
            error = float(rows.error_deg[k])
            text = f"true {_degrees(true[k])}, estimated {_degrees(torch.from_numpy(rows.angles[k]))}"
            images = (sample.target, sample.rendered, np.abs(sample.target - sample.rendered))
            cells.append(Cell(images=images, caption=(text, f"error {error:.1f}°"), wrong=error > 5))
        what = "error by direction of the axis" if symmetry.opposites else "error by viewing direction"
        direction = symmetry.direction(rotation).numpy()
        drawn = {
            "poses": draw_grid(cells, titles=TITLES),
            "sphere": errors_on_sphere(direction, rows.error_deg, symmetry.opposites, what),
        }
        save_figures(trainer, self.folder, part, drawn)


def _degrees(angles: Tensor) -> str:
    return " ".join(f"{angle:.0f}°" for angle in angles.rad2deg().tolist())


def errors_on_sphere(
    direction: Float[np.ndarray, "N 3"], error_deg: Float[np.ndarray, "N"], opposites: bool, what: str
) -> Pixels:
    """Draw a unit vector of each pose on the sphere, as the camera sees it; the colour is the error of the pose.

    The projection is Lambert's azimuthal equal-area projection. The first disc is the half of the sphere towards the
    camera (z < 0, y down). The second disc is the other half. If `opposites` is true, opposite vectors mean the same
    and are drawn in the first disc alone.

    Args:
        what: begins the title, which has the median and the largest error.
    """
    flipped = opposites & (direction[:, 2:] > 0)
    x, y, z = np.where(flipped, -direction, direction).T
    scale = np.sqrt(1 / (1 + np.abs(z)))  # the rim of each half then has radius 1
    highest = max(float(np.quantile(error_deg, 0.98)), 1e-3)
    halves = [(z <= 0, "towards the camera")] if opposites else [(z <= 0, "near half"), (z > 0, "far half")]
    figure = new_figure(0.9 + 3.9 * len(halves), 4.2)
    figure.set_layout_engine("constrained")  # leaves room for the colour bar
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
    return to_pixels(figure)
