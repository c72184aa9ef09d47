"""Save figures as PNG files and to TensorBoard."""

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from stnrot.callbacks.figures import Pixels


def save_figures(trainer: L.Trainer, folder: Path, part: str, figures: dict[str, Pixels]) -> None:
    """Write each figure to `folder/epoch_007/NAME.png`, or `folder/test/NAME.png`, and to TensorBoard as `part/NAME`.

    Args:
        part: `val` or `test`.
        figures: pixels by NAME.
    """
    here = folder / ("test" if part == "test" else f"epoch_{trainer.current_epoch:03d}")
    here.mkdir(parents=True, exist_ok=True)
    for name, pixels in figures.items():
        Image.fromarray(pixels).save(here / f"{name}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, pixels in figures.items():
                logger.experiment.add_image(f"{part}/{name}", pixels, trainer.global_step, dataformats="HWC")
