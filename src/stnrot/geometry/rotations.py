"""Rotation matrices of R^d: from parameters, at random, the nearest to a matrix, and the distance from a rotation.

The module has the angle, the Cayley transform, the exponential and the QR decomposition. Products of reflections are in
`householder.py`. The functions of parameters take batches, `[*b, ...]`, such as a network predicts.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.arguments import Count, Natural, checked
from stnrot.geometry.autograd import at_least_float32, full_precision, gradients, is_traced, without_nan
from stnrot.geometry.constants import identity

CONVERGED = {torch.float32: 1e-3, torch.float64: 1e-7}  # a step squares the gap: below this, one step reaches rounding
ROUNDING = 32  # times the machine epsilon: a smaller gap is rounding, and the matrix is left unchanged
STEPS = 12  # Newton-Schulz steps, at most: enough for singular values from 0.02 to 1.7


@checked
def planar_rotation(angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b 2 2"]:
    """Return [[cos, -sin], [sin, cos]] of an angle in radians.

    >>> planar_rotation(torch.tensor(torch.pi / 2)).round().int().tolist()
    [[0, -1], [1, 0]]
    """
    angle = at_least_float32(angle)
    c, s = angle.cos(), angle.sin()
    return torch.stack((c, -s, s, c), -1).unflatten(-1, (2, 2))


@checked
def skew(x: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return the skew matrix L - L^T, where L is the part of x below the diagonal. It generates a rotation.

    >>> skew(torch.tensor([[0.0, 0.0], [3.0, 0.0]])).tolist()
    [[0.0, -3.0], [3.0, 0.0]]
    """
    below = x.tril(-1)
    return below - below.mT


@checked
def cayley(a: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return the Cayley transform (I - a/2)^-1 (I + a/2) of a skew matrix.

    It reaches all rotations except those with a rotation by 180 degrees in some plane. To second order it equals the
    exponential of a. It is computed as (I/2 - a/4)^-1 - I, which has smaller rounding errors for large a. If a is not
    skew and the inverse does not exist, the result is NaN.

    Source: A. Cayley, Sur quelques proprietes des determinants gauches, 1846.

    >>> cayley(torch.tensor([[0.0, -2.0], [2.0, 0.0]])).round().int().tolist()  # by 2 atan(2 / 2) = 90 degrees
    [[0, -1], [1, 0]]
    """
    quarter = at_least_float32(a) / 4
    unit = identity(quarter.shape[-1], quarter.device, quarter.dtype)
    inverse, failed = torch.linalg.inv_ex(torch.sub(quarter, unit, alpha=0.5).neg())
    inverse = torch.where(failed[..., None, None] == 0, inverse, math.nan)
    return newton_schulz_step(inverse - unit)


def cayley_from(start: Float[Tensor, "d d"], weight: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Return `start @ cayley(skew(weight))`: one matrix inverse forward, and only matrix products backward."""
    if not torch.is_grad_enabled() or is_traced(weight):
        return _cayley_from(start, weight)
    return _CayleyFrom.apply(start, weight)


def _cayley_from(start: Tensor, weight: Tensor) -> Tensor:
    return start @ cayley(skew(weight))


class _CayleyFrom(Function):
    """The gradient of the Cayley transform Q: dQ = P dA P / 4, with P = I + Q = (I/2 - A/4)^-1, which always exists."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, weight: Tensor) -> Tensor:
        quarter = skew(weight).div_(-4)
        quarter.diagonal().add_(0.5)
        p = torch.linalg.inv_ex(quarter).inverse
        start_p = start @ p
        ctx.save_for_backward(start, weight, p, start_p)
        return newton_schulz_step(start_p - start)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        start, weight, p, start_p = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(gradients(_cayley_from, (start, weight), upstream))
        with full_precision(upstream):
            grad_a = start_p.mT @ upstream @ p.mT
        return None, (grad_a - grad_a.mT).div_(4).tril_(-1)


@checked
def exponential(a: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return exp(a) of a skew matrix. It reaches every rotation.

    The rounding error of `torch.linalg.matrix_exp` grows with the number of squarings. A Newton-Schulz step removes it.

    >>> a = skew(torch.randn(4, 4))
    >>> bool(rotation_defect(exponential(a)) < 1e-5)
    True
    """
    return newton_schulz_step(torch.linalg.matrix_exp(at_least_float32(a).contiguous()))


@checked
def newton_schulz_step(r: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Do one Newton-Schulz step towards the nearest rotation, r - r (r^T r - I) / 2.

    The correction is a constant for the gradient: the gradient of the result passes to r unchanged.
    """
    r = at_least_float32(r)
    with torch.no_grad(), full_precision(r):
        gap = r.mT @ r
        gap.diagonal(dim1=-2, dim2=-1).sub_(1)
        step = r @ gap
    return r.sub(step, alpha=0.5)


@checked
def qr_rotation(w: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return Q of the decomposition w = Q R with a positive diagonal of R. If det w < 0, the last column is negated.

    The result is smooth in w where w is regular. Source: the Gram-Schmidt process.
    """
    q, r = torch.linalg.qr(at_least_float32(w))
    sign = r.detach().diagonal(dim1=-2, dim2=-1).sign()
    sign = torch.where(sign == 0, 1, sign)
    last = det_sign(q.detach()) * sign.prod(-1)
    return q * torch.cat((sign[..., :-1], (sign[..., -1] * last)[..., None]), -1)[..., None, :]


@checked
def random_rotation(dim: Count, *batch: Natural) -> Float[Tensor, "*batch dim dim"]:
    """Draw rotations from the Haar measure on SO(d), the uniform distribution, in float64.

    Source: F. Mezzadri, How to generate random matrices from the classical compact groups, 2007.

    >>> rotations = random_rotation(3, 10)
    >>> rotations.shape, bool(rotation_defect(rotations).max() < 1e-12)
    (torch.Size([10, 3, 3]), True)
    """
    return qr_rotation(torch.randn(*batch, dim, dim, dtype=torch.float64))


@checked
@torch.no_grad()
def project_rotation(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return the rotation nearest to a matrix in Frobenius norm, without a gradient.

    If a matrix has an infinite or NaN entry, its rotation is NaN. The others of the batch are not affected.

    Source: S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.

    >>> project_rotation(3 * torch.eye(2)).round().int().tolist()
    [[1, 0], [0, 1]]
    """
    matrix, poison = without_nan(at_least_float32(matrix))
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.ones_like(u[..., 0])
    with full_precision(u):
        sign[..., -1] = det_sign(u @ vh)
        return (u * sign[..., None, :]) @ vh + poison


@checked
@torch.no_grad()
def newton_schulz(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    r"""Return the rotation nearest to a matrix, fast if the matrix is near a rotation. The result has no gradient.

    It repeats `W <- W + W (I - W^T W) / 2` until W is a rotation. A step costs two matrix products, 4 d^3
    multiplications and additions. After one step of an optimizer, two or three such steps are enough. If the matrix is
    far from a rotation, `project_rotation` computes the result. A matrix with an infinite or NaN entry is returned
    unchanged.

    Source: Z. Kovarik, Some iterative methods for improving orthonormality, 1970; A. Bjoerck and C. Bowie, 1971.
    """
    w = at_least_float32(matrix)
    if w.is_meta:
        return torch.empty_like(w)
    if not w.isfinite().all():
        return w
    unit = identity(len(w), w.device, w.dtype)
    with full_precision(w):
        for step in range(STEPS):
            gap = unit - w.mT @ w
            if step == 0:
                if gap.abs().amax() <= ROUNDING * torch.finfo(w.dtype).eps:
                    return w if det_sign(w) > 0 else project_rotation(w)
                if _largest(gap) > 1.5:  # at 2 a singular value is sqrt(3), and the steps do not converge
                    return project_rotation(w)
            w = torch.addmm(w, w, gap, alpha=0.5)
            if torch.linalg.matrix_norm(gap) < CONVERGED[w.dtype]:
                break
        else:
            return project_rotation(matrix)
    return w if det_sign(w) > 0 else project_rotation(matrix)


def _largest(symmetric: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Estimate the largest magnitude of an eigenvalue, by the power method. It starts at the largest row."""
    v = symmetric[symmetric.square().sum(1).argmax()]
    for _ in range(6):
        v = symmetric @ (v / torch.linalg.vector_norm(v))
    return torch.linalg.vector_norm(v)


@checked
@torch.no_grad()
def rotation_defect(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b"]:
    """Return max |R^T R - I|, computed in float64. It does not check the sign of the determinant.

    >>> rotation_defect(2 * torch.eye(2)).item()
    3.0
    """
    wide = matrix.double()
    gap = wide.mT @ wide - identity(matrix.shape[-1], matrix.device, torch.float64)
    return gap.abs().amax((-2, -1))


@checked
def det_sign(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b"]:
    """Return the sign of the determinant.

    The determinant itself can be computed as 0 for a large orthogonal matrix in float32.
    """
    return torch.linalg.slogdet(at_least_float32(matrix)).sign
