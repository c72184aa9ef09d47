"""Arithmetic on the circle."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Bring angles into [-pi, pi). The derivative is 1 everywhere but at the seam."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def angular_distance(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the length of the shorter arc between two angles, in [0, pi]."""
    return wrap(a - b).abs()


def circular_mean(angle: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    r"""Return the direction of the mean resultant, `atan2(sum sin a, sum cos a)`.

    Undefined where the resultant vanishes; `atan2(0, 0) = 0` is returned there.
    Source: K. V. Mardia and P. E. Jupp, Directional Statistics, 2000, section 2.2.
    """
    return torch.atan2(angle.sin().sum(), angle.cos().sum())
