"""The likelihood of a known angle."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.constants import constant
from stnrot.geometry.tails import exp
from stnrot.models.outputs import Orientation

CONCENTRATION = 10.0  # a standard deviation of 18 degrees; at 1 the sampler's gradient outweighed that of the angle


def angle_loss(orientation: Orientation, true: Float[Tensor, "B"], spread: float) -> Float[Tensor, ""]:
    r"""Return the mean negative log-likelihood of the true angles.

    There are three cases:

    - An encoder that regresses: the likelihood is a von Mises distribution about the predicted angle. Without its
      constant, the loss is `concentration * (1 - cos(error))`.
    - An encoder that searches, `spread = 0`: the likelihood is the posterior. Between two bins, its logarithm is
      interpolated linearly.
    - An encoder that searches, `spread > 0`: the loss is the cross-entropy between the posterior and a von Mises
      distribution about the true angle, of concentration `1 / spread^2`, both at the bins.

    Args:
        orientation: prediction of the encoder.
        true: known angles in radians.
        spread: standard deviation of the target distribution in radians.

    Raises:
        InputError: if the spread is not 0 and smaller than half a bin.
    """
    if orientation.log_posterior is None:
        return CONCENTRATION * (1 - (orientation.angle[:, 0] - true).cos()).mean()
    bins = orientation.log_posterior.shape[1]
    if spread:
        if spread < 0.99999 * math.pi / bins:  # narrower, and the target would be the nearest bin alone
            given, half = math.degrees(spread), 180 / bins
            raise InputError(
                f"task.angle_spread_deg={given:g}: expected 0 or at least half a bin of the posterior, {half:g} degrees"
            )
        density = exp(((_bins(bins, true.device, true.dtype) - true[:, None]).cos() - 1) / spread**2)
        target = density / density.sum(1, keepdim=True)
        return -(target * orientation.log_posterior).sum(1).mean()
    position = true * (bins / (2 * math.pi))
    below = position.floor()
    share = position - below
    left, right = (orientation.log_posterior.gather(1, (below.long() + step)[:, None] % bins)[:, 0] for step in (0, 1))
    return -((1 - share) * left + share * right).mean()


@constant
def _bins(count: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{count}"]:
    """Return the angles of equal bins of the circle, in radians."""
    return torch.arange(count, device=device, dtype=dtype) * (2 * math.pi / count)
