"""Collect the predictions of a validation or test epoch from all processes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from stnrot.geometry import circular_mean, wrap
from stnrot.models.outputs import Prediction


@dataclass(frozen=True)
class PredictionRows:
    """Predictions of `Register` or `Classify`, one row a sample. A column without values is None."""

    index: np.ndarray
    label: np.ndarray | None
    predicted: np.ndarray | None
    confidence: np.ndarray | None
    angle: np.ndarray | None  # ground truth, radians
    predicted_angle: np.ndarray | None

    def error(self, relative: bool) -> np.ndarray | None:
        """Return predicted minus true angle, wrapped, in degrees; `relative` subtracts its circular mean first."""
        if self.angle is None or self.predicted_angle is None:
            return None
        error = torch.from_numpy(self.predicted_angle - self.angle)
        return np.degrees(wrap(error - circular_mean(error) if relative else error).numpy())


class PredictionCollector(L.Callback, ABC):
    """Collect the predictions of an epoch, then call `finish` on the first process.

    Attributes:
        parts: the epochs of which predictions are collected: `val`, `test` or both.
        record: class of the predictions to collect. The callback ignores tasks that return another class.
    """

    parts: tuple[str, ...] = ("val", "test")
    record: type = Prediction

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._shown: list[Any] = []

    @abstractmethod
    def finish(self, trainer: L.Trainer, task: Any, part: str, rows: Any, shown: list[Any]) -> None:
        """Use the rows of the whole set and the samples chosen by `shown_of`, both ordered by index."""

    def rows_of(self, prediction: Any, batch: Any) -> Any:
        """Return the rows of a batch, a dataclass of arrays with the column `index`; here those of a `Prediction`."""
        confidence = predicted = None
        if prediction.log_probability is not None:
            confidence, predicted = prediction.log_probability.exp().max(-1)
        return PredictionRows(
            index=batch.index.cpu().numpy(),
            label=_array(batch.label),
            predicted=_array(predicted),
            confidence=_array(confidence),
            angle=_array(batch.angle),
            predicted_angle=_array(None if prediction.orientation is None else prediction.orientation.angle[:, 0]),
        )

    def shown_of(self, trainer: L.Trainer, part: str, prediction: Any, batch: Any) -> list[Any]:
        """Return the samples of a batch whose images `finish` draws; each has an attribute `index`."""
        return []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Collect a batch of the validation set."""
        self._collect(trainer, "val", outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Collect a batch of the test set."""
        self._collect(trainer, "test", outputs, batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Finish the validation epoch; its metrics are computed."""
        self._close(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Finish the test; its metrics are computed."""
        self._close(trainer, pl_module, "test")

    def _collect(self, trainer: L.Trainer, part: str, prediction: Any, batch: Any) -> None:
        if part in self.parts and isinstance(prediction, self.record) and not trainer.sanity_checking:
            self._rows.append(self.rows_of(prediction, batch))
            self._shown += self.shown_of(trainer, part, prediction, batch)

    def _close(self, trainer: L.Trainer, task: Any, part: str) -> None:
        shares = gathered((self._rows, self._shown))
        self._rows, self._shown = [], []
        rows = [each for share, _ in shares for each in share]
        if trainer.is_global_zero and rows:
            shown = sorted((each for _, share in shares for each in share), key=lambda sample: sample.index)
            self.finish(trainer, task, part, _joined(rows), shown)


def _array(column: Tensor | None) -> np.ndarray | None:
    if column is None:
        return None
    supported = column.float() if column.dtype is torch.bfloat16 else column  # NumPy has no bfloat16
    return supported.detach().cpu().numpy()


def _joined(parts: list[Any]) -> Any:
    """Concatenate the rows of batches, and sort them by index."""
    order = np.concatenate([part.index for part in parts]).argsort()

    def column(name: str) -> Any:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces)[order]

    return type(parts[0])(**{field.name: column(field.name) for field in fields(parts[0])})


def gathered(mine: Any) -> list[Any]:
    """Return the objects of all processes, ordered by rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, mine)
    return shares
