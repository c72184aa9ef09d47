"""Rotations of R^d as matrices: from parameters, at random, nearest, and how far from one.

Angle, Cayley transform, exponential and QR here, products of reflections in `householder.py`. All take batches of
parameters, `[*b, ...]`, such as a network predicts.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, full_precision, gradients

CONVERGED = {torch.float32: 1e-3, torch.float64: 1e-7}  # then one more step leaves the square: rounding
ROUNDING = 32  # times the machine's precision: as good as it gets, and left as it is
STEPS = 12  # of Newton and Schulz: enough for singular values from 0.02 to 1.7


def planar_rotation(angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b 2 2"]:
    """Return [[cos, -sin], [sin, cos]]."""
    angle = at_least_float32(angle)
    c, s = angle.cos(), angle.sin()
    return torch.stack((c, -s, s, c), -1).unflatten(-1, (2, 2))


def skew(x: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return L - L^T of the part L of x below its diagonal: the generator of a rotation."""
    below = x.tril(-1)
    return below - below.mT


def cayley(a: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return (I - a/2)^-1 (I + a/2) of a skew matrix: all rotations but those by half a turn in some plane.

    To second order it is the exponential of a. Computed as (I/2 - a/4)^-1 - I, which rounds less for large a.

    Source: A. Cayley, Sur quelques proprietes des determinants gauches, 1846.
    """
    quarter = at_least_float32(a) / 4
    identity = torch.eye(quarter.shape[-1], device=quarter.device, dtype=quarter.dtype)
    return newton_schulz_step(torch.linalg.inv(identity / 2 - quarter) - identity)


def cayley_from(start: Float[Tensor, "d d"], weight: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Return `start @ cayley(skew(weight))`, with an inverse forward and products alone back."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _cayley_from(start, weight)
    return _CayleyFrom.apply(start, weight)


def _cayley_from(start: Tensor, weight: Tensor) -> Tensor:
    return start @ cayley(skew(weight))


class _CayleyFrom(Function):
    """With Q the transform and P = I + Q = (I/2 - A/4)^-1, which is never singular, dQ = P dA P / 4.

    What the gradient needs is held beside the saved tensors, so that the result may be shared by calls that each have a
    backward pass of their own.
    """

    @staticmethod
    def forward(ctx: Any, start: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(start, weight)
        quarter = skew(weight).div_(-4)
        quarter.diagonal().add_(0.5)
        ctx.p = torch.linalg.inv_ex(quarter).inverse
        ctx.turned = start @ ctx.p
        return newton_schulz_step(ctx.turned - start)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        if torch.is_grad_enabled():
            return tuple(gradients(_cayley_from, ctx.saved_tensors, upstream))
        with full_precision(upstream):
            to_a = ctx.turned.mT @ upstream @ ctx.p.mT
        return None, (to_a - to_a.mT).div_(4).tril_(-1)


def exponential(a: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return exp(a) of a skew matrix: every rotation.

    Rounding, which grows with the squarings of `torch.linalg.matrix_exp`, is taken off.
    """
    return newton_schulz_step(torch.linalg.matrix_exp(at_least_float32(a)))


def newton_schulz_step(r: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Take a step of Newton and Schulz towards the nearest rotation, which for the gradient is a constant."""
    with torch.no_grad(), full_precision(r):
        gap = r.mT @ r
        gap.diagonal(dim1=-2, dim2=-1).sub_(1)
        step = r @ gap
    return r.sub(step, alpha=0.5)


def qr_rotation(w: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return the Q of w = Q R with a positive diagonal of R, its last column turned round where det w < 0.

    Smooth where w is regular. Source: the Gram-Schmidt process.
    """
    if w.shape[-2] != w.shape[-1]:
        raise InputError(f"qr_rotation: expected square matrices, got shape {tuple(w.shape)}")
    q, r = torch.linalg.qr(at_least_float32(w))
    sign = r.detach().diagonal(dim1=-2, dim2=-1).sign()
    sign = torch.where(sign == 0, 1, sign)
    last = det_sign(q.detach()) * sign.prod(-1)
    return q * torch.cat((sign[..., :-1], (sign[..., -1] * last)[..., None]), -1)[..., None, :]


def random_rotation(dim: int, *batch: int) -> Float[Tensor, "*batch dim dim"]:
    """Draw from the Haar measure on SO(d), in float64.

    Source: F. Mezzadri, How to generate random matrices from the classical compact groups, 2007.
    """
    return qr_rotation(torch.randn(*batch, dim, dim, dtype=torch.float64))


@torch.no_grad()
def project_rotation(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b d d"]:
    """Return the rotation nearest in Frobenius norm, without a gradient.

    Source: S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.
    """
    u, _, vh = torch.linalg.svd(at_least_float32(matrix))
    sign = torch.ones_like(u[..., 0])
    with full_precision(u):
        sign[..., -1] = det_sign(u @ vh)
        return (u * sign[..., None, :]) @ vh


@torch.no_grad()
def newton_schulz(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    r"""Return the rotation nearest to a matrix that is one already but for an update, without a gradient.

    `W <- W + W (I - W^T W) / 2` until it is one: products of matrices alone, 4 d^3 multiplications and additions a
    step, two or three steps after one of an optimizer. What no longer is near a rotation goes to `project_rotation`.

    Source: Z. Kovarik, Some iterative methods for improving orthonormality, 1970; A. Bjoerck and C. Bowie, 1971.
    """
    w = at_least_float32(matrix)
    if not w.isfinite().all():
        return w
    identity = torch.eye(len(w), device=w.device, dtype=w.dtype)
    with full_precision(w):
        for step in range(STEPS):
            gap = identity - w.mT @ w
            if step == 0:
                if gap.abs().amax() <= ROUNDING * torch.finfo(w.dtype).eps:
                    return w if det_sign(w) > 0 else project_rotation(w)
                if _largest(gap) > 1.5:  # at 2 a singular value is the root of 3, from which the steps lead astray
                    return project_rotation(w)
            w = torch.addmm(w, w, gap, alpha=0.5)
            if torch.linalg.matrix_norm(gap) < CONVERGED[w.dtype]:
                break
        else:
            return project_rotation(matrix)
    return w if det_sign(w) > 0 else project_rotation(matrix)


def _largest(symmetric: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return about the largest magnitude of an eigenvalue, by the power method from the largest row."""
    v = symmetric[symmetric.square().sum(1).argmax()]
    for _ in range(6):
        v = symmetric @ (v / torch.linalg.vector_norm(v))
    return torch.linalg.vector_norm(v)


@torch.no_grad()
def rotation_defect(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b"]:
    """Return max |R^T R - I|, computed in float64; it says nothing of the determinant."""
    wide = matrix.double()
    gap = wide.mT @ wide - torch.eye(matrix.shape[-1], device=matrix.device, dtype=torch.float64)
    return gap.abs().amax((-2, -1))


def det_sign(matrix: Float[Tensor, "*b d d"]) -> Float[Tensor, "*b"]:
    """Return the sign of the determinant, which itself comes out as 0 of a large orthogonal matrix in float32."""
    return torch.linalg.slogdet(matrix).sign
