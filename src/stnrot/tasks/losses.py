"""The losses on angles and images."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry import inscribed_disc
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
        angle = torch.arange(bins, device=true.device, dtype=true.dtype) * (2 * math.pi / bins)
        target = ((angle - true[:, None]).cos() / spread**2).softmax(1)
        return -(target * orientation.log_posterior).sum(1).mean()
    position = true * (bins / (2 * math.pi))
    below = position.floor()
    share = position - below
    left, right = (orientation.log_posterior.gather(1, (below.long() + step)[:, None] % bins)[:, 0] for step in (0, 1))
    return -((1 - share) * left + share * right).mean()


def photometric_loss(aligned: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Return the mean squared difference inside the inscribed disc, which stays full under any rotation."""
    inside = inscribed_disc(aligned.shape[-2:], aligned.device)
    return ((aligned - reference) ** 2 * inside).mean() * (inside.numel() / inside.sum())
