"""Align images: the losses on angle and pixels, and the metrics of the angle."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stnrot.data.batch import Batch
from stnrot.data.rng import Purpose, bits, uniform
from stnrot.errors import InputError, check_number
from stnrot.geometry import rotate_bicubic
from stnrot.models.angle_loss import angle_loss
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction
from stnrot.tasks.angle_error import AngleError
from stnrot.tasks.base import Task
from stnrot.tasks.losses import photometric_loss


class Register(Task):
    """Train a model to align images to their reference.

    The loss is a weighted sum of up to three terms:

    - `angle_loss`: negative log-likelihood of the known angle,
    - `photometric_loss`: squared difference between aligned image and reference inside the inscribed disc,
    - `consistency_loss`, self-supervised: the image is rotated by a known random angle and its angle is predicted
      again. The term is the negative log-likelihood of the angle predicted before, minus the known rotation.

    Args:
        model: a `Model`.
        optimizer: called with parameter groups; None for a task that only predicts.
        scheduler: builds the learning rate schedule, see `build_schedule`; None keeps the learning rate constant.
        encoder_lr_factor: learning rate of the module that predicts the transform (`Model.localiser`), relative to
            that of all other parameters.
        angle_weight: weight of `angle_loss`; 0 trains without known angles.
        angle_spread_deg: standard deviation of the target distribution about the known angle, for an encoder that
            searches; 0 takes the angle alone. The posterior becomes as wide as the target, so `train/angle_loss` cannot
            fall below the entropy of the target. Validation and test use the loss at the known angle.
        photometric_weight: weight of `photometric_loss`, which needs a reference image.
        consistency_weight: weight of `consistency_loss`, which needs no ground truth but a model with an encoder.
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
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        self.encoder_lr_factor = encoder_lr_factor
        self.angle_weight, self.photometric_weight = angle_weight, photometric_weight
        self.consistency_weight = consistency_weight
        check_number("encoder_lr_factor", encoder_lr_factor, 0, whole=False)
        weights = {"angle": angle_weight, "photometric": photometric_weight, "consistency": consistency_weight}
        for name, weight in weights.items():
            check_number(f"{name}_weight", weight, 0, whole=False)
        check_number("angle_spread_deg", angle_spread_deg, 0, 60, whole=False)
        self.angle_spread = math.radians(angle_spread_deg)
        if consistency_weight and not model.learns_angle:
            raise InputError(
                f"consistency_weight={consistency_weight}: expected 0, because this model has no encoder of the angle; "
                "to use the term, choose model=rot_stn"
            )
        relative = not model.aligns_to_batch and (angle_weight == 0 or not model.learns_angle)
        self.angle_error = AngleError(relative)

    def forward(self, batch: Batch) -> Prediction:
        """Predict for a batch, in the precision of the weights."""
        return self.model(*self._images(batch))

    def _images(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return batch.image.to(self.dtype), None if batch.reference is None else batch.reference.to(self.dtype)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Return the terms of the loss by name, each with its weight, without those that model or data lack.

        Raises:
            InputError: in training, if `angle_weight` is not 0 and the data has no known angles.
        """
        terms = {}
        weight, angle = self.taught_angle(batch)
        if weight and self.model.learns_angle and prediction.orientation is not None:
            if angle is not None:
                spread = self.angle_spread if self.training else 0.0
                terms["angle_loss"] = weight, angle_loss(prediction.orientation, angle, spread)
            elif self.training:
                raise InputError(
                    f"task.angle_weight={self.angle_weight}: the data has no known angles; to classify, set "
                    "task.congeal_epochs=2 or task.angle_weight=0; for pairs, set task.angle_weight=0 and another "
                    "weight, such as task.photometric_weight=1"
                )
        if self.photometric_weight and prediction.aligned is not None and prediction.reference is not None:
            terms["photometric_loss"] = (
                self.photometric_weight,
                photometric_loss(prediction.aligned, prediction.reference),
            )
        if self.consistency_weight and prediction.orientation is not None:
            terms["consistency_loss"] = self.consistency_weight, self._consistency(prediction.orientation, batch)
        return terms

    def taught_angle(self, batch: Batch) -> tuple[float, Tensor | None]:
        """Return the weight of `angle_loss` and the angles that it teaches: the known ones, if there are any."""
        return self.angle_weight, batch.angle

    def _consistency(self, orientation: Orientation, batch: Batch) -> Tensor:
        if self.training:
            draws = torch.rand(len(batch.image), device=batch.image.device, dtype=batch.image.dtype)
        else:
            draws = uniform((Purpose.CONSISTENCY,), batch.index, 1)[:, 0]
        angle = (2 * draws - 1) * math.pi
        image, reference = self._images(batch)
        rotated = rotate_bicubic(image, angle)  # the second sampling of these pixels: bicubic leaves little trace
        again, _ = self.model.orient(rotated, reference)
        return angle_loss(again, orientation.angle[:, 0].detach() - angle, 0.0)

    def on_fit_start(self) -> None:
        """Keep the seed of the job."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the model's draws, such as dropout, by (seed, process, epoch, batch): a resumed run repeats them."""
        key = (self._seed, Purpose.STEP, self.global_rank, self.current_epoch)
        torch.manual_seed(int(bits(key, torch.tensor([batch_idx]), 1)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._predict(batch, "train")[0]

    def measure(self, batch: Batch, part: str) -> Prediction:
        """Return the predictions for a batch; update the metrics."""
        _, prediction = self._predict(batch, part)
        self.update_metrics(prediction, batch)
        return prediction

    def update_metrics(self, prediction: Prediction, batch: Batch) -> None:
        """Add a batch to the metrics; without ground truth, or without a prediction of it, there is nothing to add."""
        if prediction.orientation is not None and batch.angle is not None:
            self.angle_error.update(prediction.orientation.angle[:, 0], batch.angle)

    def report(self, part: str) -> None:
        """Log the metrics of the epoch over all processes, and reset them."""
        if self.angle_error.update_called:
            self.log_dict({f"{part}/{name}": value for name, value in self.angle_error.compute().items()})
            self.angle_error.reset()

    def _predict(self, batch: Batch, part: str) -> tuple[Tensor, Prediction]:
        """Return the loss and the predictions; log the loss and its terms."""
        prediction = self(batch)
        terms = self.losses(prediction, batch)
        if self.training and not any(weight for weight, _ in terms.values()):
            raise InputError("this model, data and task leave nothing to minimise: give one task.*_weight > 0")
        if not terms:
            return torch.zeros(()), prediction
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        values = {"loss": loss} | {name: term for name, (_, term) in terms.items()}
        self.log_means({f"{part}/{name}": value for name, value in values.items()}, len(batch.image))
        return loss, prediction

    def build_optimizer(self) -> Optimizer:
        """Build the optimizer; the module that predicts the transform, if there is one, has its own learning rate."""
        localiser = self.model.localiser
        inside = set() if localiser is None else set(localiser.parameters())
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in self.model.parameters():
            groups[parameter in inside].append(parameter)
        optimizer = self.optimizer_of({"params": group} for group in groups.values() if group)
        if groups[True]:
            optimizer.param_groups[0]["lr"] *= self.encoder_lr_factor
        return optimizer
