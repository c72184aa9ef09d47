"""The error of angles over an epoch and all processes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stnrot.geometry import circular_mean, wrap


class AngleError(Metric):
    """Compute mean, median and 95th percentile (degrees) of the wrapped error, and the share within 5 degrees.

    Args:
        relative: subtract the circular mean of the errors first, and name the results `angle_dispersion_...`. A model
            that was trained without known angles chooses its upright freely, so only the dispersion about its own
            choice can be measured.
    """

    full_state_update = False
    error: list[Tensor]

    def __init__(self, relative: bool) -> None:
        super().__init__()
        self.relative = relative
        self.add_state("error", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Float[Tensor, "B"], true: Float[Tensor, "B"]) -> None:
        """Add a batch of angles in radians."""
        self.error.append(predicted.detach() - true)

    def compute(self) -> dict[str, Tensor]:
        """Return the values by name."""
        error = dim_zero_cat(self.error)
        if self.relative:
            error = error - circular_mean(error)
        degrees = wrap(error).abs() * (180 / math.pi)
        name = "angle_dispersion" if self.relative else "angle"
        return {
            f"{name}_mean_deg": degrees.mean(),
            f"{name}_median_deg": torch.quantile(degrees, 0.5),
            f"{name}_p95_deg": torch.quantile(degrees, 0.95),
            f"{name}_within_5deg": (degrees <= 5).float().mean(),
        }
