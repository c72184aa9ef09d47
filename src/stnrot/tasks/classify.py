"""Classify images at any orientation."""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from stnrot.data.batch import Batch
from stnrot.data.image_data import ImageData
from stnrot.errors import InputError, check_number
from stnrot.models.model import Model
from stnrot.models.outputs import Prediction
from stnrot.tasks.accuracy import Accuracy
from stnrot.tasks.congealing import Confusion, Congealing
from stnrot.tasks.register import Register

MEANS = "congealing_means"  # key of a checkpoint


class Classify(Register):
    """Add the negative log-likelihood of the class, `nll`, to the loss terms of `Register`.

    Args:
        classes: number of classes.
        classification_weight: weight of that term.
        congeal_epochs: 0 teaches the known angles. Else no angle needs to be known: for so many epochs `angle_loss`
            teaches those that congealing finds, and in the last of them its weight falls to zero (`Congealing`). With 2
            or more, one class of a pair that is often confused is turned by half a turn before that epoch.

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
        congeal_epochs: int = 0,
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
        check_number("congeal_epochs", congeal_epochs, 0)
        self.congealing = Congealing(congeal_epochs) if congeal_epochs else None
        if congeal_epochs:
            if not model.learns_angle or model.aligns_to_batch or not angle_weight:
                raise InputError(
                    f"congeal_epochs={congeal_epochs}: expected 0, or model=rot_stn without reference=batch "
                    "and an angle_weight above 0"
                )
            self.confusion = Confusion(classes)
            self.angle_error.relative = True
        self._progress = 0.0  # of the training, in epochs

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the model's draws; before the first batch with angles of congealing, congeal."""
        super().on_train_batch_start(batch, batch_idx)
        self._progress = self.current_epoch + batch_idx / self.trainer.num_training_batches
        if self.congealing is not None and batch.label is not None and self.congealing.share(self._progress):
            if self.congealing.means is None:
                self._congeal(self.congealing)
            self.congealing.means = self.congealing.means.to(self.device)  # type: ignore[union-attr]

    def _congeal(self, congealing: Congealing) -> None:
        """Find the means of the classes. Those of the first process count."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ImageData):
            raise InputError(
                f"congeal_epochs={congealing.epochs}: expected a datamodule of images, such as data=image_folder"
            )
        congealing.find(data, self.device)
        congealing.means = self.trainer.strategy.broadcast(congealing.means)

    def on_train_epoch_end(self) -> None:
        """Before the last epoch with angles of congealing, turn one of two classes that are often confused."""
        if self.congealing is not None and self.current_epoch == self.congealing.epochs - 2:
            if self.confusion.update_called:
                self.congealing.separate(self.confusion.compute())
            self.confusion.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the means of the classes for as long as they are needed."""
        if self.congealing is not None and self.congealing.share(self._progress):
            checkpoint[MEANS] = self.congealing.means

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the means of the classes."""
        super().on_load_checkpoint(checkpoint)
        if self.congealing is not None:
            means = checkpoint.get(MEANS)
            fits = isinstance(means, Tensor) and means.dim() == 4 and len(means) == self.classes
            self.congealing.means = means if fits else None

    def taught_angle(self, batch: Batch) -> tuple[float, Tensor | None]:
        """Return the weight of `angle_loss` and the angles that it teaches: the known ones, or those of congealing."""
        if self.congealing is None:
            return super().taught_angle(batch)
        share = self.congealing.share(self._progress) if self.training else 0.0
        if not share or batch.label is None:
            return 0.0, None
        return share * self.angle_weight, self.congealing.angle(batch.image, batch.label)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        loss, prediction = self._predict(batch, "train")
        found, label = prediction.log_probability, batch.label
        counted = self.congealing is not None and self.congealing.counts(self._progress)
        if counted and found is not None and label is not None:
            self.confusion.update(found, label)
        return loss

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
