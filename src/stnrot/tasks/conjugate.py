"""Find the rotation R and the function f from samples of y = R^T f(R z)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from stnrot.errors import check_number
from stnrot.geometry.axis_matching import axis_angles
from stnrot.layers.conjugate import Conjugate
from stnrot.tasks.base import Task


class FindRotation(Task):
    """Fit a `Conjugate` to samples by least squares, and measure how far its rotation is from the hidden one.

    Args:
        model: a `Conjugate` of `ScaledTanh`.
        optimizer: called with the parameters; None for a task that only predicts.
        scheduler: builds the learning rate schedule, see `build_schedule`; None keeps the learning rate constant.
        penalty_weight: weight of the rotation's `penalty()`, which is 0 for all methods but `penalty`.
    """

    def __init__(
        self,
        *,
        model: Conjugate,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None,
        scheduler: Callable[..., Any] | None = None,
        penalty_weight: float,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        check_number("penalty_weight", penalty_weight, 0, whole=False)
        self.penalty_weight = penalty_weight

    def forward(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """Return R^T f(R z)."""
        return self.model(z)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._fit(batch, "train") + self.penalty_weight * self.model.rotation.penalty()

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        """Log the squared error of a batch."""
        self._fit(batch, part)

    def report(self, part: str) -> None:
        """Log the angles between found and hidden axes, and how far the matrix is from a rotation."""
        angle = axis_angles(self.relative_rotation()).rad2deg()
        self.log(f"{part}/axes_mean_deg", angle.mean())
        self.log(f"{part}/axes_max_deg", angle.max(), prog_bar=True)
        self.log(f"{part}/defect", self.model.rotation.defect())

    def _fit(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        """Return the mean squared error, which is logged."""
        z, y = batch
        loss = F.mse_loss(self(z), y)
        self.log_means({f"{part}/loss": loss}, len(z))
        return loss

    def relative_rotation(self) -> Float[Tensor, "d d"]:
        """Return R R*^T in float64, where R* is the hidden rotation.

        If all axes are found, the result is a signed permutation matrix.
        """
        hidden: Any = self.trainer.datamodule.truth.rotation  # type: ignore[attr-defined]
        with torch.no_grad():
            return self.model.rotation.matrix().double().cpu() @ hidden.matrix().double().T
