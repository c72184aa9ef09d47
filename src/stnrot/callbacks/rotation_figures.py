"""Pictures of how far a rotation is found, in TensorBoard and as PNG."""

from pathlib import Path
from typing import Any

import lightning as L

from stnrot.callbacks import figures
from stnrot.callbacks.save_figures import show
from stnrot.geometry.axes import matched_axes


class RotationFigures(L.Callback):
    """Draw R R*^T, its rows in the order of the hidden axes, and the heights of the curves beside the hidden ones.

    Args:
        folder: gets `epoch_007/rotation.png` and so on, and `test/`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw after each epoch."""
        self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw what was tested."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Any, task: Any, part: str) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        product = task.relative_rotation()
        order, sign = matched_axes(product)
        hidden = trainer.datamodule.truth.f.log_height
        heights = task.model.f.log_height.detach().cpu()[order]
        pixels = figures.rotation_found(
            (product[order] * sign[:, None]).numpy(), *(h.exp().numpy() for h in (heights, hidden))
        )
        show(trainer, self.folder, part, {"rotation": pixels})
