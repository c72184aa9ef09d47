"""The Cayley transform of many small skew matrices, computed by matrix products of the whole batch."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from stnrot.geometry.autograd import full_precision, gradients, is_traced
from stnrot.geometry.constants import constant
from stnrot.geometry.rotations import cayley

# Up to this size, and up to this bound on the eigenvalues of -A^2 / 4, products are faster on a CPU than LAPACK's
# inverses: sizes from 16 to 128 on an AMD EPYC, 2026-11-29.
SIZE, BOUND = 128, 19.0
ERROR = {torch.float32: 1e-5, torch.float64: 1e-15}  # of the inverse; a Newton-Schulz step makes its result a rotation


def block_cayley(weight: Float[Tensor, "n p"], size: int) -> Float[Tensor, "n size size"]:
    """Return the Cayley transforms (I - A/2)^-1 (I + A/2) of skew matrices A of this size.

    The result is a rotation up to rounding: in float32, max |R^T R - I| <= 1e-6 for weights up to some hundred. Each
    gradient costs two matrix products.

    With `S = A^2 / 4` the inverse is `(I + A/2) (I - S)^-1`. The eigenvalues of I - S are real, from 1 to 1 + bound. A
    polynomial of degree 1 in S, which is the best one for this interval, approximates (I - S)^-1 with the error E =
    I - (I - S) X. Then `(I - S)^-1 = X (I + E) (I + E^2) (I + E^4) ...`. The number of factors depends on the bound.
    For large matrices or weights, on a GPU, in a compiled graph and under `torch.func`, `torch.linalg.inv_ex` computes
    the inverse.

    Args:
        weight: the entries of A below the diagonal, column after column: p = size (size - 1) / 2 of each matrix.
        size: of a matrix.
    """
    if torch.is_grad_enabled() and not is_traced(weight):
        return _BlockCayley.apply(weight, size)
    return _rotations(weight, size)


@constant
def _places(size: int, device: torch.device) -> tuple[Int[Tensor, " b"], Int[Tensor, " p"], Int[Tensor, " p"]]:
    """Return indices of skew matrices: for each entry its place in (w, -w, 0), and the entries below and above.

    Both lists of entries have the order of the weights.
    """
    row, column = torch.triu_indices(size, size, 1, device=device)
    below, above = column * size + row, row * size + column
    count = torch.arange(len(row), device=device)
    place = torch.full((size * size,), 2 * len(row), device=device)
    return place.index_copy(0, below, count).index_copy(0, above, count + len(row)), below, above


def _skew(weight: Tensor, size: int) -> Tensor:
    values = torch.cat((weight, -weight, weight.new_zeros(len(weight), 1)), 1)
    return values.index_select(1, _places(size, weight.device)[0]).unflatten(1, (size, size))


def _formula(weight: Tensor, size: int) -> Tensor:
    return cayley(_skew(weight, size))


def _rotations(weight: Tensor, size: int) -> Tensor:
    if size > SIZE or not weight.is_cpu or is_traced(weight):
        return _formula(weight, size)
    a = _skew(weight / 2, size)
    s = a @ a
    bound = torch.linalg.vector_norm(s, 1, -1).max().item()  # no eigenvalue is larger than a sum over a row
    if not bound <= BOUND:  # it may be NaN
        return _formula(weight, size)
    scale = 8 / (bound**2 + 8 * bound + 8)
    error = remaining = scale * bound**2 / 8
    x = s * (2 * scale)  # 2 X, for R = 2 (I - A/2)^-1 - I
    _diagonal(x).add_(2 * scale * (1 + bound))
    r = torch.baddbmm(x, a, x)
    if error > ERROR[s.dtype]:
        power = torch.baddbmm(s, s, s, beta=scale * bound, alpha=scale)
        _diagonal(power).add_(error)
        r = torch.baddbmm(r, r, power)
        while (remaining := remaining**2) > ERROR[s.dtype]:
            power = power @ power
            r = torch.baddbmm(r, r, power)
    _diagonal(r).sub_(1)
    gap = r.mT @ r
    _diagonal(gap).sub_(1)
    return torch.baddbmm(r, r, gap, alpha=-0.5)


def _diagonal(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1)


class _BlockCayley(Function):
    """The gradient of the Cayley transform: dR = (R + I) dA (R + I) / 4."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, size: int) -> Tensor:
        r = _rotations(weight, size)
        ctx.size = size
        ctx.save_for_backward(weight, r)
        return r

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        weight, r = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *gradients(lambda weight: _formula(weight, ctx.size), (weight,), g), None
        with full_precision(g):
            right = torch.baddbmm(g, g, r.mT)
            grad = torch.baddbmm(right, r.mT, right).reshape(len(r), -1)
        _, below, above = _places(ctx.size, g.device)
        return (grad.index_select(1, below) - grad.index_select(1, above)) / 4, None
