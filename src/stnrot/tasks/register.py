"""Align pictures: the losses on angle and pixels, the optimizer, the angle's metrics."""

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
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction
from stnrot.tasks.angle_error import AngleError
from stnrot.tasks.base import ScheduledTask
from stnrot.tasks.losses import angle_loss, photometric_loss


class Register(ScheduledTask):
    """Train a model to line images up with their reference.

    The loss is the weighted sum of up to three terms: the angle's negative log-likelihood, the squared
    difference of aligned picture and reference inside the inscribed disc, and, self-supervised, the
    negative log-likelihood of a pseudo-label: turned by a known random angle, the picture must be given
    the angle that it was given before, less that turn.

    Args:
        model: a `Model`.
        optimizer: called with parameter groups; None for a task that is only to predict.
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped every batch, or None.
        encoder_lr_factor: learning rate of the net that predicts the transform, relative to the rest's.
        angle_weight: of the loss that needs known angles; 0 trains without them.
        angle_spread_deg: standard deviation of the distribution about the known angle that an encoder that searches is
            trained towards; 0 for the angle alone. The posterior becomes as wide, and `train/angle_loss` cannot fall
            below the entropy of that distribution; validation and test take the loss at the known angle.
        photometric_weight: of the loss that needs a reference picture.
        consistency_weight: of the loss that needs nothing; for models that orient by an encoder.
    """

    def __init__(
        self,
        *,
        model: Model,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer] | None,
        scheduler: Callable[..., Any] | None,
        encoder_lr_factor: float,
        angle_weight: float,
        angle_spread_deg: float,
        photometric_weight: float,
        consistency_weight: float,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.model = model
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
        return self.model(*self._pictures(batch))

    def _pictures(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return batch.image.to(self.dtype), None if batch.reference is None else batch.reference.to(self.dtype)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Return the terms of the loss by name, each with its weight; what a model lacks has none."""
        terms = {}
        if self.angle_weight and self.model.learns_angle and prediction.orientation is not None:
            if batch.angle is not None:
                spread = self.angle_spread if self.training else 0.0
                terms["angle_loss"] = self.angle_weight, angle_loss(prediction.orientation, batch.angle, spread)
            elif self.training:
                raise InputError(
                    f"task.angle_weight={self.angle_weight}, but the data knows no angles: set task.angle_weight=0 "
                    "and another weight, such as task.photometric_weight=1 where there are references"
                )
        if self.photometric_weight and prediction.aligned is not None and prediction.reference is not None:
            terms["photometric_loss"] = (
                self.photometric_weight,
                photometric_loss(prediction.aligned, prediction.reference),
            )
        if self.consistency_weight and prediction.orientation is not None:
            terms["consistency_loss"] = self.consistency_weight, self._consistency(prediction.orientation, batch)
        return terms

    def _consistency(self, orientation: Orientation, batch: Batch) -> Tensor:
        if self.training:
            turn = torch.rand(len(batch.image), device=batch.image.device, dtype=batch.image.dtype)
        else:
            turn = uniform((Purpose.CONSISTENCY,), batch.index, 1)[:, 0]
        turn = (2 * turn - 1) * math.pi
        orient: Any = self.model.orient
        image, reference = self._pictures(batch)
        again, _ = orient(
            rotate_bicubic(image, turn), reference
        )  # sampled once more: bicubic leaves little trace of it
        return angle_loss(again, orientation.angle[:, 0].detach() - turn, 0.0)

    def measure(self, prediction: Prediction, batch: Batch) -> None:
        """Update the metrics."""
        if prediction.orientation is not None and batch.angle is not None:
            self.angle_error.update(prediction.orientation.angle[:, 0], batch.angle)

    def _step(self, batch: Batch, part: str) -> tuple[Tensor, Prediction]:
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

    def on_fit_start(self) -> None:
        """Take down the seed that the job was given."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make what the model draws at random a function of (seed, step, process): a resumed run is the run."""
        key = (self._seed, Purpose.STEP, self.global_rank, self.current_epoch)
        torch.manual_seed(int(bits(key, torch.tensor([batch_idx]), 1)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._step(batch, "train")[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Measure, and hand the prediction to the callbacks."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Measure, and hand the prediction to the callbacks."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, part: str) -> Prediction:
        _, prediction = self._step(batch, part)
        self.measure(prediction, batch)
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self.report("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test set."""
        self.report("test")

    def report(self, part: str) -> None:
        """Log what was measured, over all processes, and forget it."""
        if self.angle_error.update_called:
            self.log_dict({f"{part}/{name}": value for name, value in self.angle_error.compute().items()})
            self.angle_error.reset()

    def configure_optimizers(self) -> Any:
        """Give the encoder its own learning rate; step the schedule every batch."""
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            groups[name.startswith(("encoder.", "localisation."))].append(parameter)
        optimizer = self.optimizer_of({"params": p} for p in groups.values() if p)
        if groups[True]:
            optimizer.param_groups[0]["lr"] *= self.encoder_lr_factor
        return self.scheduled(optimizer)
