"""Save figures as PNG files and to TensorBoard."""

from io import BytesIO
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from stnrot.callbacks.figures import Pixels
from stnrot.runs.atomic_write import atomic_write


def save_figures(trainer: L.Trainer, folder: Path, part: str, figures: dict[str, Pixels]) -> None:
    """Write each figure to `folder/epoch_007/NAME.png`, or `folder/test/NAME.png`, and to TensorBoard as `part/NAME`.

    Args:
        part: `val` or `test`.
        figures: pixels by NAME.
    """
    here = folder / ("test" if part == "test" else f"epoch_{trainer.current_epoch:03d}")
    here.mkdir(parents=True, exist_ok=True)
    for name, pixels in figures.items():
        file = BytesIO()
        Image.fromarray(pixels).save(file, "png")
        with atomic_write(here / f"{name}.png") as new:
            new.write_bytes(file.getvalue())
        height, width, colours = pixels.shape
        # `add_image` would encode the pixels again
        image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=file.getvalue())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                value = Summary.Value(tag=f"{part}/{name}", image=image)
                logger.experiment._get_file_writer().add_summary(Summary(value=[value]), trainer.global_step)
