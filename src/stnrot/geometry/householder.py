"""Products of Householder reflections, as a few large products of matrices."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.geometry.autograd import full_precision, gradients

SHORTEST = 1e-15  # the square of a shorter vector comes near what float32 can hold
SMALL, LARGE = 64, 128  # reflections in a block, for few and for many points: measured at d = 64 to 2,048


def reflect(
    x: Float[Tensor, "*b N d"], vectors: Float[Tensor, "*b m d"], inverse: bool = False
) -> Float[Tensor, "*b N d"]:
    r"""Turn each row z of x to R z, or R^T z, where R = H_1 H_2 ... H_m and H_i = I - 2 v_i v_i^T / |v_i|^2.

    A block of n reflections is one map of rank n, with the rows v_1 ... v_n in V (compact WY),

        H_1 ... H_n = I - V^T T V,   T = S^-1,   S = triu(V V^T, 1) + diag(V V^T) / 2,

    and m / n blocks follow each other: 4 N m d multiplications and additions forward and some 12 N m d in all with the
    gradients, and 2 n m d for the S of all blocks, n = 64 or 128. No vector is ever normalised: the length is in S.

    R is orthogonal to rounding whatever the vectors, from 1e-15 to 1e15 long: parallel ones do no harm, and a shorter
    one counts as the axis of its number. Double differentiable; never computed in less than float32.

    Source: C. Bischof and C. Van Loan, The WY representation for products of Householder matrices, 1987; R. Schreiber
    and C. Van Loan, A storage-efficient WY representation, 1989; for S, T. Joffrain et al., Accumulating Householder
    transformations, revisited, 2006.
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, vectors.dtype), torch.float32)
    groups = math.prod(x.shape[:-2])
    points = x.to(dtype).reshape(groups, *x.shape[-2:])
    flat = vectors.to(dtype).reshape(groups, *vectors.shape[-2:])
    with full_precision(x):
        wy = compact_wy(flat, None, block_size(x.shape[-2]))
        return turn(points, flat, None, wy, None, inverse).view(x.shape)


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


def block_size(points: int) -> int:
    """Return how many reflections a block has that turns so many points."""
    return SMALL if points < LARGE else LARGE


class CompactWY(NamedTuple):
    """V and T of each of K blocks, of one product or of G; but for a compiler, values without a graph."""

    v: Float[Tensor, "K *G n d"]
    t: Float[Tensor, "K *G n n"]


def compact_wy(vectors: Float[Tensor, "*G m d"], start: Float[Tensor, "m d"] | None, size: int) -> CompactWY:
    """Return the blocks of the vectors, to which their start, if they have one, is added.

    The start, or else the axis of its number, stands in for a vector that is too short to have a direction: left out,
    a reflection would change the sign of the determinant.
    """
    if torch.compiler.is_compiling():
        return _compact_wy(vectors, start, size)
    with torch.no_grad():  # `turn` has the gradient
        return _compact_wy(vectors, start, size)


def _compact_wy(vectors: Tensor, start: Tensor | None, size: int) -> CompactWY:
    v = vectors if start is None else vectors + start
    if torch.compiler.is_compiling() or not v.is_cpu:  # where a number of a tensor has to be waited for
        return _factors(_with_directions(v, start), size)[0]
    wy, half = _factors(v, size)
    if half.min().item() < SHORTEST**2 / 2:
        wy, _ = _factors(_with_directions(v, start), size)
    return wy


def _factors(v: Tensor, size: int) -> tuple[CompactWY, Tensor]:
    """Return the blocks, and the diagonal of their S."""
    *groups, count, dim = v.shape
    number = -(-count // size)
    size = -(-count // number)
    spare = number * size - count
    if spare:
        v = F.pad(v, (0, 0, 0, spare))  # by zeros, which reflect nothing
    v = v.reshape(*groups, number, size, dim)
    if groups:
        v = v.transpose(0, 1)
    triangle = (v @ v.mT).triu_()
    half = triangle.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    if spare:
        half[-1, ..., -spare:] = 1
    identity = torch.eye(size, device=v.device, dtype=v.dtype)
    return CompactWY(v, torch.linalg.solve_triangular(triangle, identity.expand_as(triangle), upper=True)), half


def _with_directions(vectors: Tensor, start: Tensor | None) -> Tensor:
    """Put the start, or an axis, in the place of what is too short."""
    count, dim = vectors.shape[-2:]
    if start is None:
        axes = torch.eye(dim, device=vectors.device, dtype=vectors.dtype)
        start = axes.repeat(-(-count // dim), 1)[:count]
    short = torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True) < SHORTEST
    return torch.addcmul(vectors, short.to(vectors.dtype), start)


def turn(
    x: Float[Tensor, "*G N d"],
    vectors: Float[Tensor, "*G m d"],
    start: Float[Tensor, "m d"] | None,
    wy: CompactWY,
    sign: Float[Tensor, "d"] | None,
    inverse: bool,
) -> Float[Tensor, "*G N d"]:
    """Turn the rows of x by the signs and then by the blocks made of the vectors and their start, or back."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _Turn.apply(x, vectors, start, wy, sign, inverse)
    return _turn(x, wy, sign, inverse)


def _turn(
    x: Tensor,
    wy: CompactWY,
    sign: Tensor | None,
    inverse: bool,
    steps: list[tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Turn the rows; note down what came to each block and what it took off along its vectors."""
    x = x if sign is None or inverse else x * sign
    for k in _order(wy, inverse):
        v, t = wy.v[k], wy.t[k]
        b = x @ v.mT @ (t if inverse else t.mT)
        if steps is not None:
            steps.append((x, b))
        x = _add(x, b, v)
    return x if sign is None or not inverse else x * sign


def _order(wy: CompactWY, inverse: bool) -> range:
    """Return the blocks' numbers in the order that rows of x meet them."""
    return range(len(wy.v)) if inverse else range(len(wy.v) - 1, -1, -1)


def _add(x: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Return x - b v."""
    return torch.addmm(x, b, v, alpha=-1) if x.ndim == 2 else torch.baddbmm(x, b, v, alpha=-1)


def _from_vectors(
    x: Tensor, vectors: Tensor, start: Tensor | None, size: int, sign: Tensor | None, inverse: bool
) -> Tensor:
    return _turn(x, _compact_wy(vectors, start, size), sign, inverse)


class _Turn(Function):
    """`_turn`, with the gradients of all blocks in batched products.

    Of a block, `b = x V^T T, y = x - b V` for the inverse, which meets the first block first. Going back from the
    gradient g of y, with `p = g V^T T^T`, that of x is `g - p V`, of S `b^T p`, of V `-(b^T g + p^T x)` and what comes
    through S. For the rotation itself T is transposed, and so is the gradient of S.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        vectors: Tensor,
        start: Tensor | None,
        wy: CompactWY,
        sign: Tensor | None,
        inverse: bool,
    ) -> Tensor:
        ctx.start, ctx.sign, ctx.inverse = start, sign, inverse
        steps: list[tuple[Tensor, Tensor]] = []
        y = _turn(x, wy, sign, inverse, steps)
        xs, bs = zip(*steps, strict=True)
        ctx.save_for_backward(x, vectors, *wy, *xs, *bs)
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, vectors, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            size = saved[0].shape[-2]
            formula = partial(_from_vectors, start=ctx.start, size=size, sign=ctx.sign, inverse=ctx.inverse)
            return *gradients(formula, (x, vectors), upstream), None, None, None, None
        with full_precision(upstream):
            return *_backward(ctx, vectors.shape, saved, upstream), None, None, None, None


def _backward(ctx: Any, shape: torch.Size, saved: list[Tensor], g: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of points and vectors."""
    wy, inverse = CompactWY(*saved[:2]), ctx.inverse
    g = g if ctx.sign is None or not inverse else g * ctx.sign
    gs, ps = [], []
    for k in reversed(_order(wy, inverse)):
        v, t = wy.v[k], wy.t[k]
        p = g @ v.mT @ (t.mT if inverse else t)
        gs.append(g)
        ps.append(p)
        g = _add(g, p, v)
    to_x = g if ctx.sign is None or inverse else g * ctx.sign
    if not ctx.needs_input_grad[1]:
        return to_x, None
    v, groups = wy.v, g.ndim == 3
    v = v.flatten(0, 1) if groups else v[0] if len(v) == 1 else v
    g, p = (_together(each, inverse, groups) for each in (gs, ps))
    x, b = (_together(each, not inverse, groups) for each in (saved[2 : 2 + len(gs)], saved[2 + len(gs) :]))
    to_s = b.mT @ p if inverse else p.mT @ b
    to_v = _add(_add((to_s.triu() + to_s.triu(1).mT) @ v, b.mT, g), p.mT, x)
    if groups:
        to_v = to_v.view(wy.v.shape).transpose(0, 1)
    return to_x, to_v.reshape(*shape[:-2], -1, shape[-1])[..., : shape[-2], :]


def _together(each: list[Tensor], backwards: bool, groups: bool) -> Tensor:
    """Return what was found for each block as one batch, in the order of the blocks."""
    if len(each) == 1:
        return each[0]
    each = each[::-1] if backwards else each
    return torch.cat(each) if groups else torch.stack(each)
