"""Say from a picture in which pose a solid is seen."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from stnrot.data.rendered import Views
from stnrot.geometry.autograd import at_least_float32, full_precision
from stnrot.geometry.euler import euler_to_matrix
from stnrot.models.outputs import PoseEstimate
from stnrot.models.pose_net import PoseNet
from stnrot.tasks.angle_error import AngleError
from stnrot.tasks.base import ScheduledTask


class EstimatePose(ScheduledTask):
    """Fit a `PoseNet` to pictures whose poses are known, in the space of its matrices, where nothing jumps.

    The loss is the Frobenius norm of the difference, not its square: where a picture could be of either of two poses
    the best answer is then one of the two and not what lies between. (With the square the axis of a torus was 1.4 times
    as far off.)

    Args:
        model: a `PoseNet`.
        optimizer: called with the parameters; None for a task that is only to predict.
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped every batch, or None.
    """

    def __init__(
        self,
        *,
        model: PoseNet,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None,
        scheduler: Callable[..., Any] | None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.model = model
        self.angle_error = AngleError(relative=False)

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 3"]:
        """Predict, in the precision of the weights."""
        return self.model(image.to(self.dtype))

    def _step(self, views: Views, part: str) -> tuple[Tensor, Tensor]:
        matrix = self(views.image)
        with full_precision(views.rotation):
            loss = torch.linalg.matrix_norm(at_least_float32(matrix) - self.model.symmetry.seen(views.rotation)).mean()
        self.log_means({f"{part}/loss": loss}, len(matrix))
        return loss, matrix

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._step(batch, "train")[0]

    def validation_step(self, batch: Views, batch_idx: int) -> Any:
        """Measure, and hand the estimate to the callbacks."""
        return self._estimate(batch, "val")

    def test_step(self, batch: Views, batch_idx: int) -> Any:
        """Measure, and hand the estimate to the callbacks."""
        return self._estimate(batch, "test")

    def _estimate(self, views: Views, part: str) -> PoseEstimate:
        _, matrix = self._step(views, part)
        with full_precision(views.rotation):
            angles = self.model.euler(matrix)
            rotation = euler_to_matrix(angles, self.model.axes)
            error = self.model.symmetry.distance(rotation, views.rotation)
        self.angle_error.update(error, torch.zeros_like(error))
        return PoseEstimate(angles, rotation, error)

    def on_validation_epoch_end(self) -> None:
        """Log how far the poses are off."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log how far the poses are off."""
        self._report("test")

    def _report(self, part: str) -> None:
        self.log_dict({f"{part}/{name}": value for name, value in self.angle_error.compute().items()})
        self.angle_error.reset()

    def configure_optimizers(self) -> Any:
        """Step the schedule every batch."""
        return self.scheduled(self.optimizer_of(self.model.parameters()))
