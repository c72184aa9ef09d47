"""The losses on angles and pictures."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry import inscribed_disc
from stnrot.models.outputs import Orientation

CONCENTRATION = 10.0  # of errors of 18 degrees; at 1 the gradient through the sampler drowned the angle


def angle_loss(orientation: Orientation, true: Float[Tensor, "B"], spread: float) -> Float[Tensor, ""]:
    r"""Return how badly an orientation fits the true angles (radians), on average.

    For an encoder that searches, the negative log-likelihood of its posterior, between the bins linearly
    in the logarithm; with a `spread` (radians), the cross-entropy with a von Mises distribution of concentration
    `1 / spread^2` about the true angle, at the bins. For one that regresses, the negative log-likelihood of a von Mises
    distribution about its angle, but for a constant, `concentration * (1 - cos(error))`.
    """
    if orientation.log_posterior is None:
        return CONCENTRATION * (1 - (orientation.angle[:, 0] - true).cos()).mean()
    bins = orientation.log_posterior.shape[1]
    if spread:
        if spread < 0.99999 * math.pi / bins:  # the target would be the nearest bin, whatever lies between two
            given, half = math.degrees(spread), 180 / bins
            raise InputError(
                f"task.angle_spread_deg={given:g}: expected 0 or at least half a bin of the posterior, {half:g} degrees"
            )
        angle = torch.arange(bins, device=true.device, dtype=true.dtype) * (2 * math.pi / bins)
        target = ((angle - true[:, None]).cos() / spread**2).softmax(1)
        return -(target * orientation.log_posterior).sum(1).mean()
    place = true * (bins / (2 * math.pi))
    below = place.floor()
    share = place - below
    left, right = (orientation.log_posterior.gather(1, (below.long() + step)[:, None] % bins)[:, 0] for step in (0, 1))
    return -((1 - share) * left + share * right).mean()


def photometric_loss(aligned: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Return the mean squared difference inside the inscribed disc, which no rotation empties."""
    inside = inscribed_disc(aligned.shape[-2:], aligned.device)
    return ((aligned - reference) ** 2 * inside).mean() * (inside.numel() / inside.sum())
