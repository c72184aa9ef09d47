"""Maps whose weight is the matrix itself."""

import torch
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.rotations import newton_schulz, newton_schulz_step
from stnrot.layers.checks import check_rotation
from stnrot.layers.maps.base import RotationMap

COMPILED_STEPS = 4  # of Newton-Schulz in each use: enough if an update changes no singular value by more than a half


class NewtonSchulz(RotationMap):
    """A free matrix. After an update, the next use replaces it by the nearest rotation.

    To first order, this keeps the part of the update that is tangent to the rotations.

    Args:
        start: the rotation to start with, in float64.
    """

    def __init__(self, start: Tensor) -> None:
        check_rotation("start", start)
        super().__init__(start)
        self.register_buffer("done", self.weight.detach().clone(), persistent=False)
        self.done: Tensor

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix, the weight itself."""
        return weight

    def prepare(self, points: int | None) -> Tensor:
        """Return the matrix. If it has changed since the last use, replace it by the nearest rotation first."""
        if self.weight.dtype.itemsize < 4:
            raise InputError(
                f"method='newton_schulz' keeps its matrix in the weight: expected 32 bits, got {self.weight.dtype}; "
                "take another method, or leave this layer in float32"
            )
        if torch.compiler.is_compiling():  # a graph cannot inspect values, so each use does the same steps
            rotation = self.weight.detach()
            for _ in range(COMPILED_STEPS):
                rotation = newton_schulz_step(rotation)
            result = self.weight + (rotation - self.weight.detach())
            if not torch.compiler.is_exporting():  # an exported model is not trained
                with torch.no_grad():
                    self.weight.copy_(rotation)
            return result
        if self.weight.is_meta:  # no values
            return self.weight
        if self.done.device != self.weight.device or not torch.equal(self.weight, self.done):
            self.done = newton_schulz(self.weight).detach().clone()  # for a rotation, the result is the weight itself
            with torch.no_grad():
                self.weight.copy_(self.done)
        return self.weight


class Penalty(RotationMap):
    """A free matrix. It is not a rotation; the term `|W^T W - I|^2` of the loss pulls it towards one.

    Source: A. Brock et al., Neural photo editing with introspective adversarial networks, 2017.

    Args:
        start: the rotation to start with, in float64.
    """

    is_rotation = False

    def __init__(self, start: Tensor) -> None:
        check_rotation("start", start)
        super().__init__(start)

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix."""
        return at_least_float32(weight)
