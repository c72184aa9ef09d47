"""Classify images at any orientation."""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from stnrot.data.batch import Batch
from stnrot.errors import InputError, check_number
from stnrot.models.model import Model
from stnrot.models.outputs import Prediction
from stnrot.tasks.accuracy import Accuracy
from stnrot.tasks.register import Register


class Classify(Register):
    """Add the negative log-likelihood of the class, `nll`, to the loss terms of `Register`.

    Args:
        classes: number of classes.
        classification_weight: weight of that term.

    The other arguments are those of `Register`.
    """

    def __init__(
        self,
        *,
        model: Model,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer] | None,
        scheduler: Callable[..., Any] | None = None,
        encoder_lr_factor: float,
        angle_weight: float,
        angle_spread_deg: float,
        photometric_weight: float,
        consistency_weight: float,
        classes: int,
        classification_weight: float,
    ) -> None:
        super().__init__(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            encoder_lr_factor=encoder_lr_factor,
            angle_weight=angle_weight,
            angle_spread_deg=angle_spread_deg,
            photometric_weight=photometric_weight,
            consistency_weight=consistency_weight,
        )
        check_number("classification_weight", classification_weight, 0, whole=False)
        self.classification_weight, self.classes = classification_weight, classes
        self.accuracy = Accuracy()

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Return the terms of the loss by name, each with its weight.

        Raises:
            InputError: if the classifier has another number of classes than the data; in training, if the data has no
                labels or the model has no classifier.
        """
        terms = super().losses(prediction, batch)
        if batch.label is not None and prediction.log_probability is not None:
            found = prediction.log_probability.shape[1]
            if found != self.classes:
                raise InputError(
                    f"model.classifier: expected {self.classes} logits, one for each class of the data, got {found}; "
                    "write its number of classes as ${data_spec.classes}"
                )
            nll = F.nll_loss(prediction.log_probability, batch.label)
            terms = {"nll": (self.classification_weight, nll)} | terms
        elif self.training:
            raise InputError("task=classify needs labels and a classifier; to align only, use task=register")
        return terms

    def update_metrics(self, prediction: Prediction, batch: Batch) -> None:
        """Add a batch to the metrics of angle and class."""
        super().update_metrics(prediction, batch)
        if prediction.log_probability is not None and batch.label is not None:
            self.accuracy.update(prediction.log_probability, batch.label)

    def report(self, part: str) -> None:
        """Log the metrics of the epoch over all processes, and reset them."""
        super().report(part)
        if self.accuracy.update_called:
            self.log(f"{part}/accuracy", self.accuracy.compute(), prog_bar=True)
            self.accuracy.reset()
