"""Gather what a task predicted over an evaluation epoch and over processes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from stnrot.data.batch import Batch
from stnrot.geometry import circular_mean, wrap
from stnrot.models.outputs import Prediction


@dataclass(frozen=True)
class Rows:
    """One row a sample, in the order of the set; a column is None where nothing is known of it."""

    index: np.ndarray
    label: np.ndarray | None
    predicted: np.ndarray | None
    confidence: np.ndarray | None
    angle: np.ndarray | None  # true, radians
    predicted_angle: np.ndarray | None

    def error(self, relative: bool) -> np.ndarray | None:
        """Return predicted minus true angle, wrapped, in degrees; less its circular mean if `relative`."""
        if self.angle is None or self.predicted_angle is None:
            return None
        error = torch.from_numpy(self.predicted_angle - self.angle)
        return np.degrees(wrap(error - circular_mean(error) if relative else error).numpy())


def _array(column: Tensor | None) -> np.ndarray | None:
    if column is None:
        return None
    known = column.float() if column.dtype is torch.bfloat16 else column  # which NumPy does not know
    return known.detach().cpu().numpy()


def _rows(prediction: Prediction, batch: Batch) -> Rows:
    confidence = predicted = None
    if prediction.log_probability is not None:
        confidence, predicted = prediction.log_probability.exp().max(-1)
    return Rows(
        index=batch.index.cpu().numpy(),
        label=_array(batch.label),
        predicted=_array(predicted),
        confidence=_array(confidence),
        angle=_array(batch.angle),
        predicted_angle=_array(None if prediction.orientation is None else prediction.orientation.angle[:, 0]),
    )


def _joined(parts: list[Any]) -> Any:
    order = np.concatenate([part.index for part in parts]).argsort()

    def column(name: str) -> Any:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces)[order]

    return type(parts[0])(**{field.name: column(field.name) for field in fields(parts[0])})


class PredictionCollector(L.Callback, ABC):
    """Call `finish` on the first process with the rows of every epoch of the `parts` named.

    They are made of what a step returns where that is a `record`.
    """

    parts: tuple[str, ...] = ("val", "test")
    record: type = Prediction

    def __init__(self) -> None:
        self._batches: list[Any] = []

    @abstractmethod
    def finish(self, trainer: L.Trainer, task: Any, part: str, rows: Any) -> None:
        """Do something with the rows."""

    def keep(self, trainer: L.Trainer, part: str, prediction: Any, batch: Any) -> None:
        """Take one batch in."""
        self._batches.append(_rows(prediction, batch))

    def close(self, trainer: L.Trainer, task: Any, part: str) -> None:
        """Put the epoch's batches, of all processes, together."""
        if trainer.sanity_checking:
            self._batches = []
            return
        batches, self._batches = [b for share in gathered(self._batches) for b in share], []
        if not trainer.is_global_zero or not batches:
            return
        self.finish(trainer, task, part, _joined(batches))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take one batch in."""
        if "val" in self.parts and isinstance(outputs, self.record):
            self.keep(trainer, "val", outputs, batch)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take one batch in."""
        if "test" in self.parts and isinstance(outputs, self.record):
            self.keep(trainer, "test", outputs, batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Finish the epoch; its metrics have been computed."""
        self.close(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Finish the epoch; its metrics have been computed."""
        self.close(trainer, pl_module, "test")


def gathered(mine: Any) -> list[Any]:
    """Return what every process holds, in the order of ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, mine)
    return shares
