"""Pictures of every validation epoch and of the test, in TensorBoard and as PNG."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from stnrot.callbacks import figures
from stnrot.callbacks.alignment_grid import Row, draw_grid
from stnrot.callbacks.figures import Pixels
from stnrot.callbacks.prediction_collector import PredictionCollector, Rows, gathered
from stnrot.callbacks.save_figures import show
from stnrot.data.batch import Batch
from stnrot.data.image_set import ImageDataset, balanced_order
from stnrot.data.rng import Purpose, permutation
from stnrot.errors import check_number
from stnrot.models.outputs import Prediction


class AlignmentFigures(PredictionCollector):
    """Draw the alignment of a fixed sample, balanced over the classes, and figures over the whole set.

    Args:
        folder: gets `epoch_007/alignment.png` and so on, and `test/`.
        samples: pictures in the alignment grid.
    """

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        check_number("samples", samples, 1)
        self.folder, self.samples = Path(folder), samples
        self._chosen: dict[str, Tensor] = {}
        self._shown: list[dict[str, Any]] = []

    def _choose(self, trainer: Any, part: str) -> Tensor:
        if part not in self._chosen:
            data = trainer.datamodule
            pictures: ImageDataset = getattr(data.splits, part)
            key = (data.split_seed, Purpose.SHOWN)
            order = permutation(key, len(pictures)) if pictures.label is None else balanced_order(pictures.label, key)
            self._chosen[part] = order[: self.samples]
        return self._chosen[part]

    def keep(self, trainer: L.Trainer, part: str, prediction: Prediction, batch: Batch) -> None:
        """Take one batch in, and of the sample also the pictures."""
        super().keep(trainer, part, prediction, batch)
        mine = torch.isin(batch.index, self._choose(trainer, part).to(batch.index.device)).nonzero()[:, 0]
        pictures = {"input": batch.image, "reference": prediction.reference, "aligned": prediction.aligned}
        if prediction.orientation is not None:
            pictures["log_posterior"] = prediction.orientation.log_posterior
        stacks = {n: None if p is None else p[mine].detach().float().cpu().numpy() for n, p in pictures.items()}
        for place, index in enumerate(batch.index[mine].tolist()):
            self._shown.append(
                {"index": index} | {n: None if stack is None else stack[place] for n, stack in stacks.items()}
            )

    def close(self, trainer: L.Trainer, task: Any, part: str) -> None:
        """Bring the sample's pictures together as well."""
        shown = [sample for share in gathered(self._shown) for sample in share]
        self._shown = sorted(shown, key=lambda sample: sample["index"])
        super().close(trainer, task, part)
        self._shown = []

    def finish(self, trainer: Any, task: Any, part: str, rows: Rows) -> None:
        """Draw everything that the rows allow."""
        relative = task.angle_error.relative
        error = rows.error(relative)
        place = {int(index): k for k, index in enumerate(rows.index)}
        at = [place[sample["index"]] for sample in self._shown]
        known = None if relative else rows.angle
        classes = trainer.datamodule.splits.classes
        shown = zip(self._shown, at, strict=True)
        grid = [self._grid_row(sample, k, rows, known, error, classes) for sample, k in shown]
        drawn = {"alignment": draw_grid(grid)}
        if error is not None and rows.angle is not None:
            what = "predicted - true angle, less the circular mean" if relative else "predicted - true angle"
            drawn["angle_error"] = figures.angle_error_histogram(error, what)
            drawn["angle_polar"] = figures.true_against_predicted(rows.angle, error)
        posterior = [sample["log_posterior"] for sample in self._shown if sample.get("log_posterior") is not None]
        if posterior and rows.predicted_angle is not None:
            angle = None if known is None else known[at]
            inputs = [sample["input"] for sample in self._shown]
            predicted = rows.predicted_angle[at]
            whose = "the reference's top" if task.model.aligns_to_batch else "the top"
            drawn["angle_posterior"] = figures.angle_posterior(inputs, np.exp(posterior), angle, predicted, whose)
        if rows.label is not None and rows.predicted is not None:
            drawn["confusion"] = figures.confusion_matrix(rows.label, rows.predicted, classes)
            if rows.angle is not None:
                drawn["accuracy_by_angle"] = figures.accuracy_by_angle(rows.angle, rows.label == rows.predicted)
        reference = getattr(task.model, "reference", None)
        if isinstance(reference, Tensor) and reference.ndim == 4:
            drawn["learned_reference"] = _stretched(reference)
        self._write(trainer, part, drawn, error)

    def _grid_row(
        self,
        sample: dict[str, Any],
        k: int,
        rows: Rows,
        angle: np.ndarray | None,
        error: np.ndarray | None,
        classes: tuple[str, ...],
    ) -> Row:
        reference, aligned = sample["reference"], sample["aligned"]
        difference = None if reference is None or aligned is None else np.abs(aligned - reference)
        text = []
        if rows.predicted_angle is not None:
            true = "" if angle is None else f"true {_whole_degrees(angle[k])}°, "
            text.append(f"{true}predicted {_whole_degrees(rows.predicted_angle[k])}°")
        wrong = error is not None and abs(error[k]) > 5
        if rows.label is not None and rows.predicted is not None and rows.confidence is not None:
            wrong = bool(rows.label[k] != rows.predicted[k])
            text.append(f"{classes[rows.label[k]]} read as {classes[rows.predicted[k]]}, {rows.confidence[k]:.0%}")
        elif error is not None:
            text.append(f"error {error[k]:.1f}°")
        pictures = (sample["input"], reference, aligned, difference)
        return Row(pictures, (text[0] if text else "", text[1] if len(text) > 1 else ""), bool(wrong))

    def _write(self, trainer: L.Trainer, part: str, drawn: dict[str, Pixels], error: np.ndarray | None) -> None:
        show(trainer, self.folder, part, drawn)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and error is not None:
                logger.experiment.add_histogram(f"{part}/angle_error_deg", error, trainer.global_step)


def _whole_degrees(angle: np.floating) -> int:
    return (round(float(np.degrees(angle))) + 180) % 360 - 180


def _stretched(reference: Tensor) -> np.ndarray:
    """Show the learned reference, whose values are free, from its lowest to its highest, enlarged."""
    picture = reference.detach()[0].float().cpu().numpy()
    low, high = picture.min(), picture.max()
    grey = ((picture - low) / max(high - low, 1e-12) * 255).astype(np.uint8).transpose(1, 2, 0)
    grey = np.broadcast_to(grey, (*grey.shape[:2], 3))
    factor = max(1, 196 // max(grey.shape[:2]))
    return grey.repeat(factor, 0).repeat(factor, 1)
