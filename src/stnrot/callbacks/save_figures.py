"""Where pictures go: into a folder as PNG, and to TensorBoard."""

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from stnrot.callbacks.figures import Pixels


def show(trainer: L.Trainer, folder: Path, part: str, drawn: dict[str, Pixels]) -> None:
    """Write pixels [height, width, 3] by their names, into `folder/epoch_007`, or `folder/test`, and as images."""
    here = folder / ("test" if part == "test" else f"epoch_{trainer.current_epoch:03d}")
    here.mkdir(parents=True, exist_ok=True)
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(here / f"{name}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, pixels in drawn.items():
                logger.experiment.add_image(f"{part}/{name}", pixels, trainer.global_step, dataformats="HWC")
