"""Pictures of how far a rotation is found, in TensorBoard and as PNG."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from stnrot.callbacks import figures
from stnrot.geometry.axes import matched_axes


class Recovery(L.Callback):
    """Draw R R*^T, its rows in the order of the hidden axes, and the heights of the curves beside the hidden ones.

    Args:
        folder: gets `epoch_007/rotation.png` and so on, and `test/`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw after each epoch."""
        self._draw(trainer, pl_module, "val", f"epoch_{trainer.current_epoch:03d}")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw what was tested."""
        self._draw(trainer, pl_module, "test", "test")

    def _draw(self, trainer: Any, task: Any, part: str, folder: str) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        product = task.relative_rotation()
        order, sign = matched_axes(product)
        hidden = trainer.datamodule.truth.f.log_height
        heights = task.model.f.log_height.detach().cpu()[order]
        pixels = figures.rotation_found(
            (product[order] * sign[:, None]).numpy(), *(h.exp().numpy() for h in (heights, hidden))
        )
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.folder / folder / "rotation.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"{part}/rotation", pixels, trainer.global_step, dataformats="HWC")
