"""Products of Householder reflections, computed by a few large matrix products."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.arguments import check_values, checked
from stnrot.geometry.autograd import at_least_float32, full_precision, gradients, same_type

SHORTEST = 1e-15  # length; the square of a shorter vector is near the smallest float32
LONGEST = 1e15  # value; the square of a larger one may be near the largest float32
NEAR = 0.9  # magnitude of a cosine; for vectors nearer to parallel, S is computed in float64
SMALL, LARGE = 64, 128  # reflections in a block: for few points on a CPU, and otherwise; measured at d = 64 to 2,048


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

    R is orthogonal up to rounding for vectors of any finite length; on a GPU and in a compiled graph, up to 1e150. A
    vector number i that is shorter than 1e-15 is replaced by the coordinate axis i. Near-parallel vectors amplify the
    rounding errors of S and of x V^T T. So a block with such vectors computes both in float64; on a GPU and in a
    compiled graph, where the vectors cannot be inspected, every block does. The function can be differentiated twice.
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
    identity = torch.eye(vectors.shape[-1], device=vectors.device, dtype=vectors.dtype)
    return reflect(identity.expand(*vectors.shape[:-2], -1, -1), vectors, inverse=True)


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


def block_size(points: int, on_cpu: bool) -> int:
    """Return the number of reflections in a block for this number of points. Many small blocks are slow on a GPU."""
    return SMALL if points < LARGE and on_cpu else LARGE


class Blocks(NamedTuple):
    """Vectors, and V and S of each block of them. S is in float64 if the block has near-parallel vectors.

    Outside a compiled graph, V and S are detached: `_ApplyBlocks` computes the gradient.
    """

    vectors: Float[Tensor, "*b m d"]
    parts: list[tuple[Float[Tensor, "*b n d"], Float[Tensor, "*b n n"]]]


def blocks_of(vectors: Float[Tensor, "*b m d"], size: int, start: Float[Tensor, "m d"] | None = None) -> Blocks:
    """Split the vectors into blocks and compute S of each.

    A vector that is too short to have a direction is replaced by its row of `start`, or by a coordinate axis if there
    is no `start`. Without a replacement the reflection would be missing, and the sign of the determinant would change.
    """
    if vectors.is_cpu and not torch.compiler.is_compiling():  # on a GPU, reading a value of a tensor is slow
        parts = []
        for v in _split(vectors.detach(), size):
            s, half = _triangle(v, wide=False)
            lengths = half.flatten().tolist()  # for few numbers min and max are faster than those of torch
            least = min(lengths, default=1)
            if max(lengths, default=1) == math.inf:
                vectors = _shortened(vectors)
                break
            if least < SHORTEST**2 / 2:
                break
            parts.append((v, _triangle(v, wide=True)[0] if _near_parallel(s, half, least) else s))
        else:
            return Blocks(vectors, parts)
    vectors = _replace_short(vectors, start)
    flat = vectors if torch.compiler.is_compiling() else vectors.detach()
    return Blocks(vectors, [(v, _triangle(v, wide=True)[0]) for v in _split(flat, size)])


def _split(vectors: Tensor, size: int) -> tuple[Tensor, ...]:
    return vectors.split(size, -2) if vectors.shape[-2] > size else (vectors,)


def _triangle(v: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
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
        axes = torch.eye(dim, device=vectors.device, dtype=vectors.dtype)
        start = axes.repeat(-(-count // dim), 1)[:count]
    short = torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True) < SHORTEST
    return torch.addcmul(vectors, short.to(vectors.dtype), start)


def apply_blocks(x: Float[Tensor, "*b N d"], blocks: Blocks, inverse: bool) -> Float[Tensor, "*b N d"]:
    """Apply all blocks to the rows of x. The last block acts first, as in R z; with `inverse`, the first."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _ApplyBlocks.apply(x, *blocks, inverse)
    return _apply_parts(x, blocks.parts, inverse)


def _apply_parts(x: Tensor, parts: list[tuple[Tensor, Tensor]], inverse: bool) -> Tensor:
    for v, s in parts if inverse else reversed(parts):
        x = _subtract_product(x, _solve(x, v, s, inverse), v)
    return x


def _solve(x: Tensor, v: Tensor, s: Tensor, inverse: bool) -> Tensor:
    """Return x V^T T if `inverse`, else x V^T T^T, computed in the type of S."""
    t = s if inverse else s.mT
    if s.dtype == x.dtype:
        return torch.linalg.solve_triangular(t, x @ v.mT, upper=inverse, left=False)
    return torch.linalg.solve_triangular(t, x.to(s.dtype) @ v.to(s.dtype).mT, upper=inverse, left=False).to(x.dtype)


def _subtract_product(x: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Return x - b v."""
    return torch.addmm(x, b, v, alpha=-1) if x.ndim == 2 else torch.baddbmm(x, b, v, alpha=-1)


class _ApplyBlocks(Function):
    """`_apply_parts`, with a gradient that reuses results of the forward pass.

    For the inverse and one block, `b = x V^T T` and `y = x - b V`. Let g be the gradient with respect to y, and
    `p = g V^T T^T`. The gradient with respect to x is `h = g - p V`. The gradient with respect to V is the sum of
    `-b^T h - p^T x` and, through S, whose gradient is `b^T p`, of `tril(p^T b - b^T p) V`. For the rotation itself, T
    is transposed and tril is replaced by triu; the diagonal is 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, vectors: Tensor, parts: list[tuple[Tensor, Tensor]], inverse: bool) -> Tensor:
        ctx.parts, ctx.inverse = parts, inverse
        passed = []
        for v, s in parts if inverse else reversed(parts):
            b = _solve(x, v, s, inverse)
            passed += [x, b]
            x = _subtract_product(x, b, v)
        ctx.save_for_backward(vectors, *passed)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        vectors, *passed = ctx.saved_tensors
        parts, inverse = ctx.parts, ctx.inverse
        size = parts[0][0].shape[-2]
        if torch.is_grad_enabled():

            def formula(x: Tensor, vectors: Tensor) -> Tensor:
                return _apply_parts(x, [(v, _triangle(v, wide=True)[0]) for v in _split(vectors, size)], inverse)

            return *gradients(formula, (passed[0], vectors), g), None, None
        wanted = ctx.needs_input_grad[1]
        # One tensor for all blocks: for a large d, joining separate gradients costs as much as the products. It is made
        # by g.new_empty because a vectorised g has a dimension that vectors lack. If no gradient is wanted, the slices
        # of `vectors` are only placeholders and are not written to.
        grad_vectors = g.new_empty(vectors.shape) if wanted else vectors
        blocks = list(zip(parts, _split(grad_vectors, size), strict=True))
        add = Tensor.addmm_ if g.ndim == 2 else Tensor.baddbmm_
        with full_precision(g):
            for (v, s), grad_v in reversed(blocks) if inverse else blocks:
                b, x = passed.pop(), passed.pop()
                p = _solve(g, v, s, not inverse)
                h = _subtract_product(g, p, v)
                if wanted:
                    w = p.mT @ b
                    w = (w - w.mT).tril_() if inverse else (w - w.mT).triu_()
                    add(grad_v, w, v, beta=0)
                    add(add(grad_v, b.mT, h, alpha=-1), p.mT, x, alpha=-1)
                g = h
        return g, grad_vectors if wanted else None, None, None
