"""Descent through the renderer by the method of Levenberg and Marquardt: angles only, from many starts at once."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry.constants import counting
from stnrot.pose.view import View

ROBUST = 0.15  # of full brightness: a larger residual comes from occlusion rather than from pixel noise
MAX_STEP = math.radians(17)
MIN_STEP = math.radians(1e-4)  # a shorter step ends the descent
GAIN = 1e-7  # share of the loss; a step that promises less is rounding


def robust_loss(residual: Float[Tensor, "M P"]) -> Float[Tensor, "M"]:
    """Return the sum over pixels of `c^2 q / (1 + q)` with `q = r^2 / c^2` and c = 0.15: about r^2, at most c^2.

    Source: S. Geman and D. McClure, Statistical methods for tomographic image reconstruction, 1987.
    """
    q = _in_units(residual)
    return (q / (1 + q)).sum(1) * ROBUST**2


def _in_units(residual: Float[Tensor, "M P"]) -> Float[Tensor, "M P"]:
    """Return r^2 / c^2. It is 0 if r is only rounding, whose square may be subnormal (`stnrot.geometry.tails`)."""
    return F.hardshrink(residual / ROBUST, torch.finfo(residual.dtype).eps / 16).square()


@dataclass(frozen=True)
class Equations:
    """A loss, half its gradient, and the Gauss-Newton matrix, for each start."""

    loss: Float[Tensor, "M"]
    gradient: Float[Tensor, "M A"]
    matrix: Float[Tensor, "M A A"]

    def step(self, damping: Float[Tensor, "M"]) -> Float[Tensor, "M A"]:
        """Solve the damped equations; limit each angle's step to MAX_STEP."""
        diagonal = self.matrix.diagonal(dim1=1, dim2=2)
        damped = self.matrix + torch.diag_embed(damping[:, None] * diagonal + torch.finfo(diagonal.dtype).tiny)
        return -torch.linalg.solve_ex(damped, self.gradient)[0].clamp(-MAX_STEP, MAX_STEP)

    def merged(self, chosen: Bool[Tensor, "M"], other: "Equations") -> "Equations":
        """Return the equations of the chosen starts, and those of `other` for the rest."""
        return Equations(
            torch.where(chosen, self.loss, other.loss),
            torch.where(chosen[:, None], self.gradient, other.gradient),
            torch.where(chosen[:, None, None], self.matrix, other.matrix),
        )

    def selected(self, kept: Bool[Tensor, "M"]) -> "Equations":
        """Return the equations of some starts."""
        return Equations(self.loss[kept], self.gradient[kept], self.matrix[kept])


def normal_equations(view: View, angles: Float[Tensor, "M A"], target: Float[Tensor, "M P"]) -> Equations:
    """Return the loss against a target and its normal equations at angles."""
    chunks = zip(angles.split(view.chunk), target.split(view.chunk), strict=True)
    parts = [_normal_equations(view, *chunk) for chunk in chunks]
    return Equations(*map(torch.cat, zip(*parts, strict=True)))


def _normal_equations(
    view: View, angles: Float[Tensor, "M A"], target: Float[Tensor, "M P"]
) -> tuple[Tensor, Tensor, Tensor]:
    image, slopes = view.draw_with_slopes(angles)
    residual = image - target
    trust = 1 / (1 + _in_units(residual))  # the weight of a pixel is its square
    weighted = slopes * trust[:, None]
    gradient = (weighted @ (residual * trust)[..., None])[..., 0]
    return robust_loss(residual), gradient, weighted @ weighted.mT


def descend(
    view: View, angles: Float[Tensor, "M A"], target: Float[Tensor, "M P"], steps: int, gain: float = GAIN
) -> tuple[Float[Tensor, "M A"], Float[Tensor, "M"], Bool[Tensor, "M"]]:
    r"""Minimise the loss of each start against its target. Return the angles, the loss, and which descents ended.

    The loss is `robust_loss`. The matrix of the normal equations is `J^T W J`, where the weights W make the gradient
    `J^T W r`. A step is taken if it lowers the loss; else the damping grows. A descent ends with a step that is short
    or promises to lower the loss by less than the share `gain`. It is then not computed any more.

    Source: D. Marquardt, An algorithm for least-squares estimation of nonlinear parameters, 1963.
    """
    angles, loss = angles.clone(), angles.new_zeros(len(angles))
    active = counting(len(angles), angles.device)
    damping = angles.new_full((len(angles),), 1e-2)
    here = normal_equations(view, angles, target)
    loss[active] = here.loss
    for _ in range(steps):
        step = here.step(damping)
        promised = -(step * here.gradient).sum(1)
        there = normal_equations(view, angles[active] + step, target[active])
        better = there.loss < here.loss
        here = there.merged(better, here)
        angles[active] += torch.where(better[:, None], step, 0)
        loss[active] = here.loss
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-7, 1e6)
        unfinished = (step.abs().amax(1) > MIN_STEP) & (promised > gain * here.loss)
        active, damping, here = active[unfinished], damping[unfinished], here.selected(unfinished)
        if not len(active):
            break
    ended = torch.ones_like(loss, dtype=torch.bool)
    ended[active] = False
    return angles, loss, ended
