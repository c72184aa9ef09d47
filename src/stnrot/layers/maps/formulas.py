"""Maps whose matrix is a formula of the weight: angle, Cayley transform, exponential and QR decomposition."""

import torch
from torch import Tensor

from stnrot.arguments import described
from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.rotations import cayley_from, exponential, planar_rotation, qr_rotation, skew
from stnrot.layers.checks import check_rotation
from stnrot.layers.maps.base import FromStart


class Angle(FromStart):
    """A learned angle, for d = 2 only.

    Source: in networks, M. Jaderberg et al., Spatial transformer networks, 2015.

    Args:
        start: the rotation to start with, in float64.
    """

    def __init__(self, start: Tensor) -> None:
        check_rotation("start", start)
        if len(start) != 2:
            raise InputError(f"start: expected a rotation of a plane, [2, 2], got {described(start)}")
        super().__init__(start, torch.atan2(start[1, 0], start[0, 0]))

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight."""
        return planar_rotation(self.start + at_least_float32(weight))


class Cayley(FromStart):
    """The Cayley transform of a skew matrix. Source: K. Helfrich et al., Orthogonal recurrent networks, 2018."""

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight."""
        return cayley_from(self.start, at_least_float32(weight))


class Exponential(FromStart):
    """The exponential of a skew matrix.

    Source: M. Lezcano-Casado and D. Martinez-Rubio, Cheap orthogonal constraints, 2019.
    """

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight."""
        return self.start @ exponential(skew(at_least_float32(weight)))


class QR(FromStart):
    """The Q of the QR decomposition of a free matrix, by the Gram-Schmidt process, see `qr_rotation`."""

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight."""
        return qr_rotation(self.start + at_least_float32(weight))
