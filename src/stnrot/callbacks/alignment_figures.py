"""Figures of alignment and classification after every validation epoch and after the test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from stnrot.callbacks import figures
from stnrot.callbacks.figures import Pixels
from stnrot.callbacks.image_grid import Cell, draw_grid
from stnrot.callbacks.prediction_collector import PredictionCollector, PredictionRows
from stnrot.callbacks.save_figures import save_figures
from stnrot.data.batch import Batch
from stnrot.data.image_set import ImageDataset, balanced_order
from stnrot.data.rng import Purpose, permutation
from stnrot.errors import check_number
from stnrot.models.outputs import Prediction


@dataclass(frozen=True)
class AlignedSample:
    """Images of one sample [channels, height, width]; None for what the model does not have."""

    index: int
    input: np.ndarray
    reference: np.ndarray | None
    aligned: np.ndarray | None
    log_posterior: np.ndarray | None


class AlignmentFigures(PredictionCollector):
    """Draw the alignment of a fixed sample of images, balanced over the classes, and figures of the whole set.

    Args:
        folder: receives `epoch_007/alignment.png` and so on, and `test/`.
        samples: number of images in `alignment.png`.
    """

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        check_number("samples", samples, 1)
        self.folder, self.samples = Path(folder), samples
        self._chosen: dict[str, Tensor] = {}

    def shown_of(self, trainer: L.Trainer, part: str, prediction: Prediction, batch: Batch) -> list[AlignedSample]:
        """Return the images of the samples that are drawn."""
        orientation = prediction.orientation
        mine = torch.isin(batch.index, self._choose(trainer, part).to(batch.index.device)).nonzero()[:, 0]
        if not len(mine):
            return []  # without reading `aligned`, which is computed when it is read

        def at(column: Tensor | None) -> Any:
            return [None] * len(mine) if column is None else column[mine].detach().float().cpu().numpy()

        columns = (
            batch.index[mine].tolist(),
            at(batch.image),
            at(prediction.reference),
            at(prediction.aligned),
            at(None if orientation is None else orientation.log_posterior),
        )
        return [
            AlignedSample(index=index, input=image, reference=reference, aligned=aligned, log_posterior=log_posterior)
            for index, image, reference, aligned, log_posterior in zip(*columns, strict=True)
        ]

    def _choose(self, trainer: Any, part: str) -> Tensor:
        if part not in self._chosen:
            data = trainer.datamodule
            images: ImageDataset = getattr(data.splits, part)
            key = (data.split_seed, Purpose.SHOWN)
            order = permutation(key, len(images)) if images.label is None else balanced_order(images.label, key)
            self._chosen[part] = order[: self.samples]
        return self._chosen[part]

    def finish(self, trainer: Any, task: Any, part: str, rows: PredictionRows, shown: list[AlignedSample]) -> None:
        """Draw every figure for which there is data."""
        relative, classes = task.angle_error.relative, trainer.datamodule.splits.classes
        error = rows.error(relative)
        drawn = _figures_of_the_set(rows, error, relative, classes)
        true = None if relative else rows.angle
        row_of = {int(index): k for k, index in enumerate(rows.index)}
        at = [row_of[sample.index] for sample in shown]
        drawn["alignment"] = draw_grid(
            [_cell(sample, k, rows, true, error, classes) for sample, k in zip(shown, at, strict=True)]
        )
        posterior = [sample.log_posterior for sample in shown if sample.log_posterior is not None]
        if posterior and rows.predicted_angle is not None:
            drawn["angle_posterior"] = figures.angle_posterior(
                [sample.input for sample in shown],
                np.exp(posterior),
                None if true is None else true[at],
                rows.predicted_angle[at],
                "direction of the reference's top" if task.model.aligns_to_batch else "direction of the top",
            )
        reference = getattr(task.model, "reference", None)
        if isinstance(reference, Tensor) and reference.ndim == 4:
            drawn["learned_reference"] = _enlarged(reference)
        save_figures(trainer, self.folder, part, drawn)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and error is not None:
                logger.experiment.add_histogram(f"{part}/angle_error_deg", error, trainer.global_step)


def _figures_of_the_set(
    rows: PredictionRows, error: np.ndarray | None, relative: bool, classes: tuple[str, ...]
) -> dict[str, Pixels]:
    drawn = {}
    if error is not None and rows.angle is not None:
        what = "predicted - true angle, circular mean subtracted" if relative else "predicted - true angle"
        drawn["angle_error"] = figures.angle_error_histogram(error, what)
        drawn["angle_polar"] = figures.true_against_predicted(rows.angle, error)
    if rows.label is not None and rows.predicted is not None:
        drawn["confusion"] = figures.confusion_matrix(rows.label, rows.predicted, classes)
        if rows.angle is not None:
            drawn["accuracy_by_angle"] = figures.accuracy_by_angle(rows.angle, rows.label == rows.predicted)
    return drawn


def _cell(
    sample: AlignedSample,
    k: int,
    rows: PredictionRows,
    true: np.ndarray | None,
    error: np.ndarray | None,
    classes: tuple[str, ...],
) -> Cell:
    """Return the cell of a sample, whose row is `k`."""
    difference = None
    if sample.reference is not None and sample.aligned is not None:
        difference = np.abs(sample.aligned - sample.reference)
    text = []
    if rows.predicted_angle is not None:
        known = "" if true is None else f"true {_whole_degrees(true[k])}°, "
        text.append(f"{known}predicted {_whole_degrees(rows.predicted_angle[k])}°")
    wrong = error is not None and abs(error[k]) > 5
    if rows.label is not None and rows.predicted is not None and rows.confidence is not None:
        wrong = bool(rows.label[k] != rows.predicted[k])
        text.append(f"{classes[rows.label[k]]} read as {classes[rows.predicted[k]]}, {rows.confidence[k]:.0%}")
    elif error is not None:
        text.append(f"error {error[k]:.1f}°")
    text += [""] * (2 - len(text))
    images = (sample.input, sample.reference, sample.aligned, difference)
    return Cell(images=images, caption=(text[0], text[1]), wrong=bool(wrong))


def _whole_degrees(angle: np.floating) -> int:
    return (round(float(np.degrees(angle))) + 180) % 360 - 180


def _enlarged(reference: Tensor) -> np.ndarray:
    """Return the learned reference from its lowest value, black, to its highest, white, enlarged."""
    values = reference.detach()[0].float().cpu().numpy()
    low, high = values.min(), values.max()
    levels = ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8).transpose(1, 2, 0)
    levels = np.broadcast_to(levels, (*levels.shape[:2], 3))
    factor = max(1, 196 // max(levels.shape[:2]))
    return levels.repeat(factor, 0).repeat(factor, 1)
