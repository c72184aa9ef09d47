"""Estimate the pose of a solid from one image."""

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
from stnrot.tasks.base import Task


class EstimatePose(Task):
    """Train a `PoseNet` on images whose poses are known, in the space of its matrices, where the pose is continuous.

    The loss is the mean Frobenius norm of predicted minus true matrix. It is not squared. If two poses look the same,
    the minimum of the norm is one of the two; the minimum of the square lies between them. With the square, the error
    of a torus's axis was 1.4 times as large.

    Args:
        model: a `PoseNet`.
        optimizer: called with the parameters; None for a task that only predicts.
        scheduler: builds the learning rate schedule, see `build_schedule`; None keeps the learning rate constant.
    """

    def __init__(
        self,
        *,
        model: PoseNet,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        self.angle_error = AngleError(relative=False)

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 3"]:
        """Return the predicted matrices, computed in the precision of the weights."""
        return self.model(image.to(self.dtype))

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._predict(batch, "train")[0]

    def measure(self, batch: Views, part: str) -> PoseEstimate:
        """Return the estimated poses of a batch; update the metrics."""
        _, matrix = self._predict(batch, part)
        with full_precision(batch.rotation):
            angles = self.model.euler(matrix)
            rotation = euler_to_matrix(angles, self.model.axes)
            error = self.model.symmetry.distance(rotation, batch.rotation)
        self.angle_error.update(error, torch.zeros_like(error))
        return PoseEstimate(angles=angles, rotation=rotation, error=error)

    def report(self, part: str) -> None:
        """Log the error of the poses over all processes, and reset it."""
        self.log_dict({f"{part}/{name}": value for name, value in self.angle_error.compute().items()})
        self.angle_error.reset()

    def _predict(self, views: Views, part: str) -> tuple[Tensor, Tensor]:
        """Return the loss, which is logged, and the predicted matrices."""
        matrix = self(views.image)
        with full_precision(views.rotation):
            loss = torch.linalg.matrix_norm(
                at_least_float32(matrix) - self.model.symmetry.encode(views.rotation)
            ).mean()
        self.log_means({f"{part}/loss": loss}, len(matrix))
        return loss, matrix
