"""Products of Householder reflections, computed by a few large matrix products."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import check_values, checked
from stnrot.geometry.autograd import at_least_float32, full_precision, same_type
from stnrot.geometry.reflection_blocks import block_size, blocks_of
from stnrot.geometry.reflection_product import apply_blocks, matrix_of


@checked
def reflect(
    x: Float[Tensor, "*b N d"], vectors: Float[Tensor, "*b m d"], inverse: bool = False
) -> Float[Tensor, "*b N d"]:
    r"""Map each row z of x to R z, or to R^T z if `inverse`: R = H_1 H_2 ... H_m, H_i = I - 2 v_i v_i^T / |v_i|^2.

    A block of n reflections is one map of rank n. With the rows v_1 ... v_n in V (compact WY form),

        H_1 ... H_n = I - V^T T V,   T = S^-1,   S = triu(V V^T, 1) + diag(V V^T) / 2.

    The m / n blocks are applied one after another, with n = 64 or 128. The cost is 4 N m d multiplications and
    additions forward, about 12 N m d together with the gradients, and 2 n m d forward and backward for S of all blocks.
    T is never formed; a triangular system is solved instead. No vector is normalised: S contains the lengths.

    R is orthogonal up to rounding for vectors of any finite length. A vector number i that is shorter than 1e-15 is
    replaced by the coordinate axis i. Near-parallel vectors amplify the rounding errors of S and of x V^T T. So a block
    with such vectors computes both in float64. On a GPU, in a compiled graph and under `torch.func` the vectors cannot
    be inspected: there every block does, and the lengths are at most 1e150. The function can be differentiated twice.
    It computes at least in float32, and a result of 16-bit arguments is in float32.

    Args:
        x: rows to map.
        vectors: v_1 ... v_m, the normals of the reflections.
        inverse: apply R^T instead of R.

    Source: C. Bischof and C. Van Loan, The WY representation for products of Householder matrices, 1987; R. Schreiber
    and C. Van Loan, A storage-efficient WY representation, 1989; for S, T. Joffrain et al., Accumulating Householder
    transformations, revisited, 2006.

    >>> reflect(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 0.0]])).tolist()
    [[-1.0, 2.0, 3.0]]
    """
    x, vectors = same_type(x, vectors)
    groups = math.prod(x.shape[:-2])
    points = x.reshape(groups, *x.shape[-2:])
    flat = vectors.reshape(groups, *vectors.shape[-2:])
    with full_precision(x):
        return apply_blocks(points, blocks_of(flat, block_size(points.shape[1], x.is_cpu)), inverse).view(x.shape)


@checked
def householder_rotation(vectors: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b d d"]:
    """Return the matrix H_1 H_2 ... H_m, with determinant (-1)^m. For the formula see `reflect`."""
    vectors = at_least_float32(vectors)
    groups, (count, dim) = math.prod(vectors.shape[:-2]), vectors.shape[-2:]
    with full_precision(vectors):
        blocks = blocks_of(vectors.reshape(groups, count, dim), block_size(dim, vectors.is_cpu))
        return matrix_of(blocks).view(*vectors.shape[:-2], dim, dim)


@checked
def householder_vectors(rotation: Float[Tensor, "*b d d"]) -> tuple[Float[Tensor, "*b m d"], Float[Tensor, "*b d"]]:
    r"""Factor a rotation into reflections and signs s: `householder_rotation(vectors) * s` is the rotation.

    The vectors have length 1. Their number m is d, or d - 1 for odd d. They are linearly independent. So changes of the
    vectors move the rotation in all directions of SO(d): with w_j = H_1 ... H_{j-1} v_j, these directions are the sum
    over j of w_j ^ R^d. (Vectors that cancel in pairs would give too few directions.) The factorisation is a QR
    decomposition. Source: A. Householder, Unitary triangularization of a nonsymmetric matrix, 1958.

    >>> rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    >>> vectors, sign = householder_vectors(rotation)
    >>> torch.allclose(householder_rotation(vectors) * sign, rotation, atol=1e-6)
    True
    """
    check_values("rotation", rotation)
    dim, rotation = rotation.shape[-1], at_least_float32(rotation)
    reflectors, tau = torch.geqrf(rotation)
    identity = torch.eye(dim, device=rotation.device, dtype=rotation.dtype)
    sign = reflectors.diagonal(dim1=-2, dim2=-1).sign()
    trivial = tau == 0  # no reflection is needed: take the one along the axis, and negate the sign to undo it
    vectors = torch.where(trivial[..., None], identity, reflectors.tril(-1).mT + identity)
    count = dim - dim % 2
    sign[..., :count] = torch.where(trivial, -sign, sign)[..., :count]
    return F.normalize(vectors[..., :count, :], dim=-1), sign
