"""The base class of all maps, and the base class of maps that start at a given rotation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stnrot.layers.checks import check_rotation


class RotationMap(nn.Module, ABC):
    """A map from the weight to a rotation.

    A call has two steps. `prepare` computes from the weight alone what calls with the same weight share. `rotate`
    applies it to points.

    Attributes:
        is_rotation: whether the matrix is a rotation for every weight.
    """

    is_rotation = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.to(torch.get_default_dtype()))

    @abstractmethod
    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight, at least in float32."""

    def prepare(self, points: int | None) -> Any:
        """Compute the rotation from the weight, in the form that is the fastest for this number of points.

        Args:
            points: None for the matrix.
        """
        return self.matrix(self.weight)

    def rotate(self, x: Tensor, prepared: Any, inverse: bool) -> Tensor:
        """Return the rows R x, or R^T x if `inverse`."""
        return x @ (prepared if inverse else prepared.mT)


class FromStart(RotationMap):
    """A map whose weight is zero at the rotation that it starts with.

    Args:
        start: the rotation to start with, in float64.
        parameters: of a rotation that has been checked; the weight has the same shape. None: the matrix itself.

    Raises:
        InputError: if the start is not a rotation.
    """

    def __init__(self, start: Tensor, parameters: Tensor | None = None) -> None:
        if parameters is None:
            check_rotation("start", start)
            parameters = start
        super().__init__(torch.zeros_like(parameters))
        self.register_buffer("start", parameters.to(torch.promote_types(self.weight.dtype, torch.float32)))
        self.start: Tensor

    def restart(self, start: Tensor) -> None:
        """Start with another rotation, in the dtype and on the device of the last one."""
        self.start = start.to(self.start)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        start = self.start
        super()._apply(fn, recurse)
        if self.start.dtype.itemsize < 4:  # in 16 bits the start would no longer be a rotation
            self.start = start.to(self.start.device)
        return self
