"""Blocks of Householder reflections in the compact WY form. The formula is in `stnrot.geometry.householder.reflect`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.autograd import is_traced
from stnrot.geometry.constants import identity

SHORTEST = 1e-15  # length; the square of a shorter vector is near the smallest float32
LONGEST = 1e15  # value; the square of a larger one may be near the largest float32
NEAR = 0.9  # magnitude of a cosine; for vectors nearer to parallel, S is computed in float64
SMALL, LARGE = 64, 128  # reflections in a block: for few points on a CPU, and otherwise; measured at d = 64 to 2,048

Part = tuple[Tensor, Tensor]  # V [*b, n, d] and S [*b, n, n] of a block; the last block may be smaller


def block_size(points: int, on_cpu: bool) -> int:
    """Return the number of reflections in a block for this number of points. Many small blocks are slow on a GPU."""
    return SMALL if points < LARGE and on_cpu else LARGE


class Blocks(NamedTuple):
    """The blocks of vectors. S is in float64 if the block has near-parallel vectors.

    Attributes:
        vectors: the tensor that receives the gradient: the vectors, or a tensor that differs from them by a constant.
        sign: of each coordinate, for a rotation that is the product of the reflections and of diag(sign); or None.
        parts: V and S of each block. Unless they are traced, they are detached: `_ApplyBlocks` computes the gradient.
    """

    vectors: Float[Tensor, "*b m d"]
    sign: Float[Tensor, " d"] | None
    parts: list[Part]


class Stack(NamedTuple):
    """All blocks in one tensor of each kind, so that a GPU runs few kernels. The last block is filled up with zeros.

    Attributes:
        vectors: see `Blocks`.
        sign: see `Blocks`.
        v: V of each block.
        t: T = S^-1 of each block.
        w: T V of each block.
    """

    vectors: Float[Tensor, "*b m d"]
    sign: Float[Tensor, " d"] | None
    v: Float[Tensor, "k *b n d"]
    t: Float[Tensor, "k *b n n"]
    w: Float[Tensor, "k *b n d"]


def blocks_of(
    weight: Float[Tensor, "*b m d"],
    size: int,
    start: Float[Tensor, "m d"] | None = None,
    sign: Float[Tensor, " d"] | None = None,
) -> Blocks | Stack:
    """Split the vectors weight + start into blocks and compute S of each. On a GPU, return a `Stack`.

    A vector that is too short to have a direction is replaced by its row of `start`, or by a coordinate axis if there
    is no `start`. Without a replacement the reflection would be missing, and the sign of the determinant would change.
    """
    traced = is_traced(weight)
    if weight.is_cpu and not traced:  # on a GPU, reading a value of a tensor is slow
        parts = []
        fixed = weight.detach()
        vectors = fixed if start is None else fixed + start
        for v in split(vectors, size):
            s, half = triangle(v, wide=False)
            lengths = half.flatten().tolist()  # for few numbers min and max are faster than those of torch
            least = min(lengths, default=1)
            if least < SHORTEST**2 / 2 or max(lengths, default=1) == math.inf:
                break
            parts.append((v, triangle(v, wide=True)[0] if _near_parallel(s, half, least) else s))
        else:
            return Blocks(weight, sign, parts)
    vectors = weight if start is None else weight + start
    if vectors.is_cpu and not traced:
        vectors = _shortened(vectors)
    vectors = _replace_short(vectors, start)
    if not vectors.is_cpu and not traced:
        return stack_of(vectors, size, sign)
    flat = vectors if traced else vectors.detach()
    return Blocks(vectors, sign, [(v, triangle(v, wide=True)[0]) for v in split(flat, size)])


def split(vectors: Tensor, size: int) -> Sequence[Tensor]:
    """Split vectors into blocks."""
    return vectors.split(size, -2) if vectors.shape[-2] > size else (vectors,)


def triangle(v: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
    """Return S and its diagonal. The values of S below the diagonal are not zero; `solve_triangular` ignores them."""
    v = v.double() if wide and v.device.type != "mps" else v  # MPS has no float64
    s = v @ v.mT
    return s, s.diagonal(dim1=-2, dim2=-1).mul_(0.5)


def _near_parallel(s: Tensor, half: Tensor, least: float) -> bool:
    """Return whether any two vectors are near parallel.

    Args:
        s: S of the block.
        half: the diagonal of S.
        least: the least value of the diagonal.
    """
    most = 2 * NEAR  # after scaling, an entry of S is twice a cosine
    if not s.numel() or torch.linalg.vector_norm(s, math.inf).item() <= most * least:
        return False  # a bound that is enough in most cases; the exact test takes several times as long
    scale = half.rsqrt()
    return (s * scale[..., None] * scale[..., None, :]).abs().max().item() > most  # the diagonal is 1


def _shortened(vectors: Tensor) -> Tensor:
    """Scale each vector so long that its square could overflow. The reflection stays the same."""
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    return vectors / torch.where((largest > LONGEST) & largest.isfinite(), largest, 1)


def _replace_short(vectors: Tensor, start: Tensor | None) -> Tensor:
    """Replace each vector that is too short by its row of `start`, or by a coordinate axis."""
    count, dim = vectors.shape[-2:]
    if start is None:
        axes = identity(dim, vectors.device, vectors.dtype)
        start = axes.repeat(-(-count // dim), 1)[:count]
    short = torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True) < SHORTEST
    return torch.addcmul(vectors, short.to(vectors.dtype), start)


@torch.no_grad()
def stack_of(vectors: Float[Tensor, "*b m d"], size: int, sign: Float[Tensor, " d"] | None = None) -> Stack:
    """Return the blocks as a `Stack`. S, T and T V are computed in float64, for near-parallel vectors."""
    count = vectors.shape[-2]
    missing = -count % size if count else size  # without a vector, one block of zeros
    v = F.pad(vectors, (0, 0, 0, missing)).unflatten(-2, (-1, size)).movedim(-3, 0).contiguous()
    s, half = triangle(v, wide=True)
    if missing:  # a vector of zeros is no reflection: its row and column of T are those of the identity
        half[-1, ..., size - missing :] = 1
    t = torch.linalg.solve_triangular(s, identity(size, s.device, s.dtype).expand_as(s), upper=True)
    return Stack(vectors, sign, v, t.to(v.dtype), (t @ v.to(t.dtype)).to(v.dtype))
