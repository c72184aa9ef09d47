"""Products of Householder reflections, as a few large products of matrices."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.errors import InputError
from stnrot.geometry.autograd import full_precision, gradients

SHORTEST = 1e-15  # the square of a shorter vector comes near what float32 can hold
NEAR = 0.9  # magnitude of a cosine: vectors nearer to parallel have their triangle in float64
SMALL, LARGE = 64, 128  # reflections in a block, for few points on a CPU and else: measured at d = 64 to 2,048


def reflect(
    x: Float[Tensor, "*b N d"], vectors: Float[Tensor, "*b m d"], inverse: bool = False
) -> Float[Tensor, "*b N d"]:
    r"""Turn each row z of x to R z, or R^T z, where R = H_1 H_2 ... H_m and H_i = I - 2 v_i v_i^T / |v_i|^2.

    A block of n reflections is one map of rank n, with the rows v_1 ... v_n in V (compact WY),

        H_1 ... H_n = I - V^T T V,   T = S^-1,   S = triu(V V^T, 1) + diag(V V^T) / 2,

    and m / n blocks follow each other: 4 N m d multiplications and additions forward and some 12 N m d in all with the
    gradients, and 2 n m d each way for the S of all blocks, n = 64 or 128. T is never formed: a triangular system is
    solved. No vector is ever normalised: the length is in S.

    R is orthogonal to rounding for vectors from 1e-15 to 1e15 long, and a shorter one counts as the axis of its number.
    Near-parallel vectors multiply the rounding of S and of x V^T T; for a block that has some, and where it cannot be
    looked at, on a GPU and in a compiled graph, both are computed in float64. Double differentiable; never computed in
    less than float32, which the result then has.

    Raises:
        InputError: if the leading dimensions or d differ.

    Source: C. Bischof and C. Van Loan, The WY representation for products of Householder matrices, 1987; R. Schreiber
    and C. Van Loan, A storage-efficient WY representation, 1989; for S, T. Joffrain et al., Accumulating Householder
    transformations, revisited, 2006.
    """
    if x.shape[:-2] != vectors.shape[:-2] or x.shape[-1] != vectors.shape[-1]:
        raise InputError(
            f"reflect: expected [*b, N, d] and [*b, m, d] with the same *b and d, got {list(x.shape)} and "
            f"{list(vectors.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, vectors.dtype), torch.float32)
    groups = math.prod(x.shape[:-2])
    points = x.to(dtype).reshape(groups, *x.shape[-2:])
    flat = vectors.to(dtype).reshape(groups, *vectors.shape[-2:])
    with full_precision(x):
        return turn(points, blocks_of(flat, block_size(points.shape[1], x.is_cpu)), inverse).view(x.shape)


def householder_rotation(vectors: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b d d"]:
    """Return H_1 H_2 ... H_m as a matrix, of det (-1)^m; `reflect` says more."""
    identity = torch.eye(vectors.shape[-1], device=vectors.device, dtype=vectors.dtype)
    return reflect(identity.expand(*vectors.shape[:-2], -1, -1), vectors, inverse=True)


def householder_vectors(rotation: Float[Tensor, "*b d d"]) -> tuple[Float[Tensor, "*b m d"], Float[Tensor, "*b d"]]:
    r"""Return unit vectors and signs s with `householder_rotation(vectors) * s` = rotation; m is d, or d - 1 for odd d.

    The vectors are linearly independent, so the rotation moves in all directions of SO(d) with them: with w_j =
    H_1 ... H_{j-1} v_j those directions are the sum over j of w_j ^ R^d. (A rotation written as vectors that cancel in
    pairs has too few.) By QR decomposition: A. Householder, Unitary triangularization of a nonsymmetric matrix, 1958.
    """
    dim = rotation.shape[-1]
    reflectors, tau = torch.geqrf(rotation)
    identity = torch.eye(dim, device=rotation.device, dtype=rotation.dtype)
    sign = reflectors.diagonal(dim1=-2, dim2=-1).sign()
    nothing = tau == 0  # to eliminate: reflect the axis, and back by the sign
    vectors = torch.where(nothing[..., None], identity, reflectors.tril(-1).mT + identity)
    count = dim - dim % 2
    sign[..., :count] = torch.where(nothing, -sign, sign)[..., :count]
    return F.normalize(vectors[..., :count, :], dim=-1), sign


def block_size(points: int, on_cpu: bool) -> int:
    """Return how many reflections a block has that turns so many points; many small blocks keep a GPU waiting."""
    return SMALL if points < LARGE and on_cpu else LARGE


class Blocks(NamedTuple):
    """Vectors, and of each block of them V and S, which but for a compiler are without a graph; S may be wider."""

    vectors: Float[Tensor, "*b m d"]
    parts: list[tuple[Float[Tensor, "*b n d"], Float[Tensor, "*b n n"]]]


def blocks_of(vectors: Float[Tensor, "*b m d"], size: int, start: Float[Tensor, "m d"] | None = None) -> Blocks:
    """Return the blocks of the vectors; for one too short to have a direction its start stands in, or else an axis.

    Left out, a reflection would change the sign of the determinant.
    """
    if vectors.is_cpu and not torch.compiler.is_compiling():  # elsewhere a number of a tensor has to be waited for
        parts = []
        for v in _split(vectors.detach(), size):
            s, half = _triangle(v, wide=False)
            least = min(half.flatten().tolist(), default=1)  # for a few numbers faster than torch's
            if least < SHORTEST**2 / 2:
                break
            parts.append((v, _triangle(v, wide=True)[0] if _near_parallel(s, half, least) else s))
        else:
            return Blocks(vectors, parts)
    vectors = _with_directions(vectors, start)
    flat = vectors if torch.compiler.is_compiling() else vectors.detach()
    return Blocks(vectors, [(v, _triangle(v, wide=True)[0]) for v in _split(flat, size)])


def _split(vectors: Tensor, size: int) -> tuple[Tensor, ...]:
    return vectors.split(size, -2) if vectors.shape[-2] > size else (vectors,)


def _triangle(v: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
    """Return S, with something below its diagonal that `solve_triangular` does not look at, and the diagonal."""
    v = v.double() if wide and v.device.type != "mps" else v  # which has no float64
    s = v @ v.mT
    return s, s.diagonal(dim1=-2, dim2=-1).mul_(0.5)


def _near_parallel(s: Tensor, half: Tensor, least: float) -> bool:
    """Say whether two vectors are, with S, its diagonal and the least of that."""
    most = 2 * NEAR  # S has twice the cosines, times lengths
    if not s.numel() or torch.linalg.vector_norm(s, math.inf).item() <= most * least:
        return False  # soon known; the rest takes several times as long
    scale = half.rsqrt()
    return (s * scale[..., None] * scale[..., None, :]).abs().max().item() > most  # ones on the diagonal


def _with_directions(vectors: Tensor, start: Tensor | None) -> Tensor:
    """Put the start, or an axis, in the place of what is too short."""
    count, dim = vectors.shape[-2:]
    if start is None:
        axes = torch.eye(dim, device=vectors.device, dtype=vectors.dtype)
        start = axes.repeat(-(-count // dim), 1)[:count]
    short = torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True) < SHORTEST
    return torch.addcmul(vectors, short.to(vectors.dtype), start)


def turn(x: Float[Tensor, "*b N d"], blocks: Blocks, inverse: bool) -> Float[Tensor, "*b N d"]:
    """Turn the rows of x by the blocks, the last of which they meet first, or back."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _Turn.apply(x, *blocks, inverse)
    return _turn(x, blocks.parts, inverse)


def _turn(x: Tensor, parts: list[tuple[Tensor, Tensor]], inverse: bool) -> Tensor:
    for v, s in parts if inverse else reversed(parts):
        x = _less(x, _solved(x, v, s, inverse), v)
    return x


def _solved(x: Tensor, v: Tensor, s: Tensor, inverse: bool) -> Tensor:
    """Return x V^T T, or x V^T T^T, computed in the type of S."""
    t = s if inverse else s.mT
    if s.dtype == x.dtype:
        return torch.linalg.solve_triangular(t, x @ v.mT, upper=inverse, left=False)
    return torch.linalg.solve_triangular(t, x.to(s.dtype) @ v.to(s.dtype).mT, upper=inverse, left=False).to(x.dtype)


def _less(x: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Return x - b v."""
    return torch.addmm(x, b, v, alpha=-1) if x.ndim == 2 else torch.baddbmm(x, b, v, alpha=-1)


class _Turn(Function):
    """`_turn`, with a gradient that takes over what was found on the way forward.

    For the inverse and one block `b = x V^T T, y = x - b V`. Going back from the gradient g of y, with `p = g V^T T^T`,
    that of x is `h = g - p V`, and that of V `-b^T h - p^T x`, and through S, whose gradient is `b^T p`,
    `tril(p^T b - b^T p) V`. For the rotation itself T is transposed, and tril is triu: the diagonal is 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, vectors: Tensor, parts: list[tuple[Tensor, Tensor]], inverse: bool) -> Tensor:
        ctx.parts, ctx.inverse = parts, inverse
        passed = []
        for v, s in parts if inverse else reversed(parts):
            b = _solved(x, v, s, inverse)
            passed += [x, b]
            x = _less(x, b, v)
        ctx.save_for_backward(vectors, *passed)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        vectors, *passed = ctx.saved_tensors
        parts, inverse = ctx.parts, ctx.inverse
        size = parts[0][0].shape[-2]
        if torch.is_grad_enabled():

            def formula(x: Tensor, vectors: Tensor) -> Tensor:
                return _turn(x, [(v, _triangle(v, wide=True)[0]) for v in _split(vectors, size)], inverse)

            return *gradients(formula, (passed[0], vectors), g), None, None
        wanted = ctx.needs_input_grad[1]
        # one for all blocks: of a large d, gradients to be put together cost as much as the products. By g.new_empty: a
        # vectorised g has a dimension that vectors lack. If none is wanted, the slices of vectors are not written to
        to_vectors = g.new_empty(vectors.shape) if wanted else vectors
        blocks = list(zip(parts, _split(to_vectors, size), strict=True))
        add = Tensor.addmm_ if g.ndim == 2 else Tensor.baddbmm_
        with full_precision(g):
            for (v, s), to_v in reversed(blocks) if inverse else blocks:
                b, x = passed.pop(), passed.pop()
                p = _solved(g, v, s, not inverse)
                h = _less(g, p, v)
                if wanted:
                    w = p.mT @ b
                    w = (w - w.mT).tril_() if inverse else (w - w.mT).triu_()
                    add(to_v, w, v, beta=0)
                    add(add(to_v, b.mT, h, alpha=-1), p.mT, x, alpha=-1)
                g = h
        return g, to_vectors if wanted else None, None, None
