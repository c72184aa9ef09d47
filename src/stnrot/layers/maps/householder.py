"""The map whose rotation is a product of Householder reflections."""

import torch
from torch import Tensor

from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.householder import householder_vectors
from stnrot.geometry.reflection_blocks import SMALL, Blocks, Stack, block_size, blocks_of
from stnrot.geometry.reflection_product import apply_blocks, matrix_of
from stnrot.layers.checks import check_rotation, checked_reflections
from stnrot.layers.maps.base import FromStart

# The matrix is cheaper for more than DENSE d points, if they have more than MANY values.
DENSE, MANY = 2, 8_000


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
        self.dim = len(start)
        self.register_buffer("sign", sign.to(torch.get_default_dtype()))
        self.sign: Tensor

    def prepare(self, points: int | None) -> Blocks | Stack | Tensor:
        """Return the reflections in blocks, or the matrix if it is faster for so many points."""
        weight, sign, dim = at_least_float32(self.weight), self.sign, self.dim
        if torch.compiler.is_compiling() and points is not None:  # the graph has to work for any number of points
            return blocks_of(weight, SMALL, self.start, sign)
        if points is not None and (points <= DENSE * dim or points * dim <= MANY):
            return blocks_of(weight, block_size(points, weight.is_cpu), self.start, sign)
        return self.matrix(weight)

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix for a weight, of which the first m rows are used."""
        start, weight = self.start, at_least_float32(weight)
        weight = weight if len(weight) == len(start) else weight[: len(start)]
        return matrix_of(blocks_of(weight, block_size(self.dim, weight.is_cpu), start, self.sign))

    def restart(self, start: Tensor) -> None:
        """Start with another rotation, for all reflections."""
        vectors, sign = householder_vectors(start)
        super().restart(vectors)
        self.sign = sign.to(self.sign)

    def rotate(self, x: Tensor, prepared: Blocks | Stack | Tensor, inverse: bool) -> Tensor:
        """Return the rows R x, or R^T x if `inverse`."""
        if isinstance(prepared, Tensor):
            return super().rotate(x, prepared, inverse)
        return apply_blocks(x, prepared, inverse)
