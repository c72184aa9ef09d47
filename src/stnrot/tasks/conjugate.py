"""Find the rotation behind which a function was sampled: y = R^T f(R z)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from stnrot.errors import check_number
from stnrot.geometry.axes import axis_angles
from stnrot.layers.conjugate import Conjugate
from stnrot.tasks.base import ScheduledTask


class FindRotation(ScheduledTask):
    """Fit a `Conjugate` to samples by least squares, and say how near its rotation is to the hidden one.

    Args:
        model: a `Conjugate` of curves.
        optimizer: called with the parameters; None for a task that is only to predict.
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped every batch, or None.
        penalty_weight: of the rotation's `penalty()`, which only method `penalty` has.
    """

    def __init__(
        self,
        *,
        model: Conjugate,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None,
        scheduler: Callable[..., Any] | None,
        penalty_weight: float,
    ) -> None:
        super().__init__(optimizer, scheduler)
        check_number("penalty_weight", penalty_weight, 0, whole=False)
        self.model = model
        self.penalty_weight = penalty_weight

    def forward(self, z: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """Return R^T f(R z)."""
        return self.model(z)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        z, y = batch
        fit = F.mse_loss(self(z), y)
        self.log_means({"train/loss": fit}, len(z))
        return fit + self.penalty_weight * self.model.rotation.penalty()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure."""
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure."""
        self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        z, y = batch
        self.log_means({f"{part}/loss": F.mse_loss(self(z), y)}, len(z))

    def on_validation_epoch_end(self) -> None:
        """Log how far the rotation is off."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log how far the rotation is off."""
        self._report("test")

    def _report(self, part: str) -> None:
        angle = axis_angles(self.relative_rotation()).rad2deg()
        self.log(f"{part}/axes_mean_deg", angle.mean())
        self.log(f"{part}/axes_max_deg", angle.max(), prog_bar=True)
        self.log(f"{part}/defect", self.model.rotation.defect())

    def relative_rotation(self) -> Float[Tensor, "d d"]:
        """Return R R*^T in float64, R* being the hidden rotation: a signed permutation where all is found."""
        hidden: Any = self.trainer.datamodule.truth.rotation  # type: ignore[attr-defined]
        with torch.no_grad():
            return self.model.rotation.matrix().double().cpu() @ hidden.matrix().double().T

    def configure_optimizers(self) -> Any:
        """Step the schedule every batch."""
        return self.scheduled(self.optimizer_of(self.model.parameters()))
