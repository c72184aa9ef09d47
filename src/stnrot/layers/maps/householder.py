"""The map whose rotation is a product of Householder reflections."""

import torch
from torch import Tensor

from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.householder import SMALL, Blocks, apply_blocks, block_size, blocks_of, householder_vectors
from stnrot.layers.checks import check_rotation, checked_reflections
from stnrot.layers.maps.base import FromStart

# The matrix is cheaper for more than DENSE d points, if they have more than MANY values.
DENSE, MANY = 2, 11_000


class Householder(FromStart):
    """A product of reflections and a fixed diagonal of signs D. For few points the matrix is never formed.

    Source: see `stnrot.geometry.householder`; in networks, Z. Mhammedi et al., Efficient orthogonal parametrisation of
    recurrent neural networks using Householder reflections, 2017.

    Args:
        start: the rotation to start with, in float64.
        reflections: m, even. With fewer than all reflections the start has to be the identity.
    """

    def __init__(self, start: Tensor, reflections: int) -> None:
        check_rotation("start", start)
        reflections = checked_reflections(reflections, len(start), "identity")
        vectors, sign = householder_vectors(start)
        if reflections < len(vectors):  # the identity: each vector reflects an axis, and the sign undoes it
            vectors, sign = vectors[:reflections], sign.clone()
            sign[reflections:] = 1
        super().__init__(start, vectors)
        self.register_buffer("sign", sign.to(torch.get_default_dtype()))
        self.sign: Tensor

    def _matrix(self, weight: Tensor) -> Tensor:
        identity = torch.eye(len(self.sign), device=weight.device, dtype=weight.dtype)
        blocks = self._blocks(weight, block_size(len(identity), weight.is_cpu))
        return apply_blocks(identity, blocks, inverse=True) * self.sign

    def _blocks(self, weight: Tensor, size: int) -> Blocks:
        start = self.start
        return blocks_of(weight + start, size, start)

    def kind(self, points: int) -> str | int:
        """Return the number of reflections in a block, or "matrix" if the matrix is faster for so many points."""
        if torch.compiler.is_compiling():  # the graph has to work for any number of points
            return SMALL
        dim = self.sign.shape[0]
        return "matrix" if points > DENSE * dim and points * dim > MANY else block_size(points, self.weight.is_cpu)

    def prepare(self, kind: str | int) -> Blocks | Tensor:
        """Return the blocks of this size, or the matrix."""
        weight = at_least_float32(self.weight)
        return self._matrix(weight) if isinstance(kind, str) else self._blocks(weight, kind)

    def rotate(self, x: Tensor, prepared: Blocks | Tensor, inverse: bool) -> Tensor:
        """Return the rows R x, or R^T x if `inverse`."""
        if isinstance(prepared, Tensor):
            return super().rotate(x, prepared, inverse)
        if inverse:
            return apply_blocks(x, prepared, inverse) * self.sign
        return apply_blocks(x * self.sign, prepared, inverse)
