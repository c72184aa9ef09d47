"""Pictures of estimated poses, in TensorBoard and as PNG."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from stnrot.callbacks import figures
from stnrot.callbacks.alignment_grid import Row, draw_grid
from stnrot.callbacks.prediction_collector import PredictionCollector, gathered
from stnrot.callbacks.save_figures import show
from stnrot.data.rendered import Views
from stnrot.data.rng import Purpose, Split, permutation
from stnrot.errors import check_number
from stnrot.models.outputs import PoseEstimate

TITLES = ("target", "estimate", "difference")


@dataclass(frozen=True)
class PoseRows:
    """One row a sample: the true rotation, the angles (radians) found, their error in degrees."""

    index: np.ndarray
    rotation: np.ndarray
    angles: np.ndarray
    error_deg: np.ndarray


class PoseFigures(PredictionCollector):
    """Draw target | rendered at the estimate | difference of a fixed sample, and all errors on the sphere.

    Args:
        folder: gets `epoch_007/poses.png`, `epoch_007/sphere.png` and so on, and `test/`.
        samples: pictures in `poses.png`.
    """

    record = PoseEstimate

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        check_number("samples", samples, 1)
        self.folder, self.samples = Path(folder), samples
        self._shown: list[tuple[int, np.ndarray, np.ndarray]] = []

    def keep(self, trainer: L.Trainer, part: str, prediction: PoseEstimate, batch: Views) -> None:
        """Take one batch in, and of the sample also what is to be seen and what is rendered at the prediction."""
        columns = (batch.index, batch.rotation, prediction.angles, prediction.error.rad2deg())
        self._batches.append(PoseRows(*(column.cpu().numpy() for column in columns)))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        chosen = permutation((data.split_seed, Purpose.SHOWN), data.count[Split[part.upper()]])[: self.samples]
        mine = torch.isin(batch.index, chosen.to(batch.index.device))
        rendered = data.draw(prediction.rotation[mine], prediction.rotation.new_zeros(int(mine.sum()), 2))
        pictures = (batch.image[mine].float().cpu().numpy(), rendered.cpu().numpy())
        self._shown += zip(batch.index[mine].tolist(), *pictures, strict=True)

    def close(self, trainer: L.Trainer, task: Any, part: str) -> None:
        """Bring the sample's pictures together as well."""
        self._shown = sorted((each for share in gathered(self._shown) for each in share), key=lambda each: each[0])
        super().close(trainer, task, part)
        self._shown = []

    def finish(self, trainer: L.Trainer, task: Any, part: str, rows: PoseRows) -> None:
        """Draw."""
        rotation, symmetry = torch.from_numpy(rows.rotation), task.model.symmetry
        true = task.model.euler(symmetry.seen(rotation))  # of angles that look the same, those that would be found
        direction = symmetry.direction(rotation).numpy()
        grid = []
        place = {int(index): k for k, index in enumerate(rows.index)}
        for index, target, rendered in self._shown:
            k = place[index]
            error = float(rows.error_deg[k])
            text = f"true {_degrees(true[k])}, found {_degrees(torch.from_numpy(rows.angles[k]))}"
            pictures = (target, rendered, np.abs(target - rendered))
            grid.append(Row(pictures, (text, f"error {error:.1f}°"), error > 5))
        what = "axis, towards the camera" if symmetry.opposites else "seen from"
        drawn = {
            "poses": draw_grid(grid, titles=TITLES),
            "sphere": figures.errors_on_sphere(direction, rows.error_deg, symmetry.opposites, what),
        }
        show(trainer, self.folder, part, drawn)


def _degrees(angles: Tensor) -> str:
    return " ".join(f"{angle:.0f}°" for angle in angles.rad2deg().tolist())
