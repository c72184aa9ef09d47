"""Refine motions by Gauss-Newton steps on a robust photometric error, and score them."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.geometry.constants import constant

MOST_SHIFT, MOST_TURN, MOST_GROWTH = 2.0, 0.1, 0.05  # of one step: pixels, radians, logarithm of the scale
MOST_SCALE = 1.6  # and its inverse, that a motion may have
LEAST_SCALE = 0.05  # of the residuals, in units of the local contrast
WINDOWS = 4  # along the shorter side of the reference; they overlap by half
SUREST = 0.95  # correlation of a window; more would let one window outweigh all others


def refine(
    image: Float[Tensor, "B 1 H W"], reference: Float[Tensor, "B 1 h w"], motion: Motion, steps: int, scaled: bool
) -> tuple[Motion, Float[Tensor, "B K"]]:
    r"""Return the motions after `steps` Gauss-Newton steps, and the evidence for each.

    Both images have equal local contrast everywhere. Minimises the sum over the pixels p of the reference

        sum_p log(1 + r_p^2 / s^2),   r_p = image(q_p) - reference(p),

    where q_p lies inside the image (A. Cauchy's error): what is hidden in one of the two hardly counts. The scale s is
    proportional to the mean of |r| at the motion. The reference is linearised instead of the image, so its derivatives
    serve all motions and steps (S. Baker and I. Matthews, Lucas-Kanade 20 years on, 2004).

    The evidence is the mean over all windows of the reference of `artanh(correlation)^2`, where a negative correlation
    counts as 0, and so does what lies outside the image.

    Args:
        image: images.
        reference: one for each image.
        motion: where to start.
        steps: how many.
        scaled: whether the scale of a motion changes too.
    """
    count = motion.angle.shape[1]
    height, width = reference.shape[-2:]
    x, y = _coordinates(height, width, image.device, image.dtype)
    slopes, products = _derivatives(reference, x, y, scaled)
    target = reference.expand(-1, count, -1, -1)
    for _ in range(steps):
        sampled, inside = _sampled(image, motion, x, y)
        residual = (sampled - target) * inside
        scale = residual.abs().sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
        weight = inside / (1 + (residual / (1.2 * scale).clamp(min=LEAST_SCALE)[..., None, None]).square())
        gradient = (weight * residual).flatten(2) @ slopes
        hessian = (weight.flatten(2) @ products).unflatten(2, (slopes.shape[2],) * 2)
        damping = torch.diag_embed(hessian.diagonal(dim1=-2, dim2=-1) * 1e-3 + 1e-6)
        motion = _moved(motion, torch.linalg.solve(hessian + damping, gradient))
    sampled, inside = _sampled(image, motion, x, y)
    return motion, _evidence(sampled, target, inside)


def _moved(motion: Motion, step: Float[Tensor, "B K parameters"]) -> Motion:
    """Return the motion after a step of the points of the reference: shift, rotation and perhaps growth."""
    shift, turn = step[..., :2].clamp(-MOST_SHIFT, MOST_SHIFT), step[..., 2].clamp(-MOST_TURN, MOST_TURN)
    scale = motion.scale
    if step.shape[2] == 4:
        scale = (scale * step[..., 3].clamp(-MOST_GROWTH, MOST_GROWTH).exp()).clamp(1 / MOST_SCALE, MOST_SCALE)
    turned = Motion(motion.angle - turn, motion.offset, scale)
    return Motion(turned.angle, motion.offset - turned.linear(shift), scale)


def _sampled(
    image: Float[Tensor, "B 1 H W"], motion: Motion, x: Float[Tensor, "w"], y: Float[Tensor, "h 1"]
) -> tuple[Float[Tensor, "B K h w"], Bool[Tensor, "B K h w"]]:
    """Sample the image where each pixel of the reference is; also return whether that is inside the image."""
    height, width = image.shape[-2:]
    c, s = ((each / motion.scale)[..., None, None] for each in (motion.angle.cos(), motion.angle.sin()))
    across, down = motion.offset[..., None, None].unbind(2)
    column, row = (c * x + across) - s * y, (s * x + down) + c * y
    inside = (column.abs() <= (width - 1) / 2) & (row.abs() <= (height - 1) / 2)
    grid = torch.stack((column * (2 / width), row * (2 / height)), -1)
    sampled = F.grid_sample(image, grid.flatten(1, 2), align_corners=False)
    return sampled.view_as(column), inside


def _derivatives(
    reference: Float[Tensor, "B 1 h w"], x: Float[Tensor, "w"], y: Float[Tensor, "h 1"], scaled: bool
) -> tuple[Float[Tensor, "B pixels parameters"], Float[Tensor, "B pixels products"]]:
    """Return the derivatives of the reference by a shift, a rotation and perhaps a growth, and their products."""
    across = F.pad((reference[..., 2:] - reference[..., :-2]) / 2, (1, 1))
    down = F.pad((reference[..., 2:, :] - reference[..., :-2, :]) / 2, (0, 0, 1, 1))
    slopes = [across, down, down * x - across * y]
    if scaled:
        slopes.append(across * x + down * y)
    stacked = torch.stack(slopes, -1).flatten(1, 3)
    return stacked, (stacked[..., :, None] * stacked[..., None, :]).flatten(2)


def _evidence(
    sampled: Float[Tensor, "B K h w"], target: Float[Tensor, "B K h w"], inside: Bool[Tensor, "B K h w"]
) -> Float[Tensor, "B K"]:
    side = max(3, round(min(target.shape[-2:]) / WINDOWS))

    def windows(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, side, max(1, side // 2))

    seen = target * inside
    product, first, second = windows(sampled * seen), windows(sampled.square() * inside), windows(seen.square())
    correlation = product / (first * second).sqrt().clamp(min=1e-3)
    share = windows(inside.to(target.dtype))
    return (correlation.clamp(0, SUREST).atanh().square() * share).mean((2, 3))


@constant
def _coordinates(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "{width}"], Float[Tensor, "{height} 1"]]:
    """Return the coordinates of the pixels from the middle."""
    y, x = (torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2 for side in (height, width))
    return x, y[:, None]
