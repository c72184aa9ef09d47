"""Refine motions by Gauss-Newton steps on a robust photometric error, and score them."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.geometry.constants import constant, vector

MOST_SHIFT, MOST_TURN, MOST_GROWTH = 2.0, 0.1, 0.05  # of one step: pixels, radians, logarithm of the scale
MOST_SCALE = 1.6  # and its inverse, that a motion may have
LEAST_SCALE = 0.05  # of the residuals, in units of the contrast
# times the mean of the residuals is the scale of the robust error: ROBUST where much may be hidden, EFFICIENT where the
# motion is nearly right (normal noise then costs a twentieth of the precision: 2.4 standard deviations)
ROBUST, EFFICIENT = 1.2, 3.0
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
    x, y = _coordinates(*reference.shape[-2:], image.device, image.dtype)
    slopes = _slopes(reference, x, y, scaled)[:, 0]
    products = (slopes[:, :, None] * slopes[:, None]).flatten(1, 2).mT
    for _ in range(steps):
        sampled, inside = _sampled(image, motion, x, y)
        residual = (sampled - reference) * inside
        weight = _weight(residual, inside, ROBUST)
        hessian = (weight.flatten(2) @ products).unflatten(2, (slopes.shape[1],) * 2)
        motion = _moved(motion, _step(hessian, (weight * residual).flatten(2) @ slopes.mT))
    sampled, inside = _sampled(image, motion, x, y)
    return motion, _evidence(sampled, reference, inside)


def polish(
    image: Float[Tensor, "B 1 H W"], reference: Float[Tensor, "B 1 h w"], motion: Motion, steps: int, scaled: bool
) -> Motion:
    """Return the motions after `steps` further steps, which weigh all pixels alike; for the rest see `refine`.

    Noise is the same everywhere, so an equal local contrast would enlarge it where little is to be seen. Both images
    are linearised here: the mean of their slopes is less noisy than that of the reference (S. Benhimane and E. Malis,
    Real-time image-based tracking of planes using efficient second-order minimization, 2004).
    """
    x, y = _coordinates(*reference.shape[-2:], image.device, image.dtype)
    for _ in range(steps):
        sampled, inside = _sampled(image, motion, x, y)
        residual = (sampled - reference) * inside
        weight = _weight(residual, inside, EFFICIENT)
        slopes = _slopes((sampled + reference) / 2, x, y, scaled)
        weighted = slopes * weight.flatten(2)[:, :, None]
        motion = _moved(motion, _step(weighted @ slopes.mT, (weighted @ residual.flatten(2)[..., None])[..., 0]))
    return motion


def _moved(motion: Motion, step: Float[Tensor, "B K parameters"]) -> Motion:
    """Return the motion after a step of the points of the reference: shift, rotation and perhaps growth."""
    shift, turn = step[..., :2].clamp(-MOST_SHIFT, MOST_SHIFT), step[..., 2].clamp(-MOST_TURN, MOST_TURN)
    scale = motion.scale
    if step.shape[2] == 4:
        scale = (scale * step[..., 3].clamp(-MOST_GROWTH, MOST_GROWTH).exp()).clamp(1 / MOST_SCALE, MOST_SCALE)
    turned = Motion(motion.angle - turn, motion.offset, scale)
    return Motion(turned.angle, motion.offset - turned.linear(shift), scale)


def _sampled(
    image: Float[Tensor, "B 1 H W"], motion: Motion, x: Float[Tensor, "w"], y: Float[Tensor, "h"]
) -> tuple[Float[Tensor, "B K h w"], Bool[Tensor, "B K h w"]]:
    """Sample the image where each pixel of the reference is; also return whether that is inside the image."""
    height, width = image.shape[-2:]
    half = vector((width / 2, height / 2), image.device, image.dtype)
    c, s = motion.angle.cos() / motion.scale, motion.angle.sin() / motion.scale
    right, down, offset = (
        torch.view_as_complex(each / half)
        for each in (torch.stack((c, s), -1), torch.stack((-s, c), -1), motion.offset)
    )
    along, below = right[..., None] * x + offset[..., None], down[..., None] * y
    grid = torch.view_as_real(along[..., None, :] + below[..., None])  # complex, to write both coordinates at once
    low, high = _ends(c, -s, motion.offset[..., :1], y, width), _ends(s, c, motion.offset[..., 1:], y, height)
    inside = (x >= low[0].maximum(high[0])[..., None]) & (x <= low[1].minimum(high[1])[..., None])
    return F.grid_sample(image, grid.flatten(1, 2), align_corners=False).view(inside.shape), inside


def _ends(
    c: Float[Tensor, "B K"], s: Float[Tensor, "B K"], offset: Float[Tensor, "B K 1"], y: Float[Tensor, "h"], side: int
) -> tuple[Float[Tensor, "B K h"], Float[Tensor, "B K h"]]:
    """Return for each row of the reference between which x a coordinate of the image, `c x + s y + offset`, is inside."""
    slope = torch.where(c < 0, c.clamp(max=-1e-6), c.clamp(min=1e-6))[..., None]
    middle, reach = -(s[..., None] * y + offset) / slope, (side - 1) / 2 / slope.abs()
    return middle - reach, middle + reach


def _slopes(
    image: Float[Tensor, "B K h w"], x: Float[Tensor, "w"], y: Float[Tensor, "h"], scaled: bool
) -> Float[Tensor, "B K parameters pixels"]:
    """Return the derivatives of an image by a shift, a rotation and perhaps a growth of its points."""
    across = F.pad((image[..., 2:] - image[..., :-2]) / 2, (1, 1))
    down = F.pad((image[..., 2:, :] - image[..., :-2, :]) / 2, (0, 0, 1, 1))
    growth = (across * x + down * y[:, None],) if scaled else ()
    return torch.stack((across, down, down * x - across * y[:, None], *growth), 2).flatten(3)


def _weight(
    residual: Float[Tensor, "B K h w"], inside: Bool[Tensor, "B K h w"], cut: float
) -> Float[Tensor, "B K h w"]:
    """Return the weights of Cauchy's error, whose scale is `cut` times the mean of the residuals."""
    scale = cut * residual.abs().sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
    return inside / (1 + (residual / scale.clamp(min=LEAST_SCALE)).square())


def _step(hessian: Float[Tensor, "B K n n"], gradient: Float[Tensor, "B K n"]) -> Float[Tensor, "B K n"]:
    damping = torch.diag_embed(hessian.diagonal(dim1=-2, dim2=-1) * 1e-3 + 1e-6)
    return torch.linalg.solve(hessian + damping, gradient)


def _evidence(
    sampled: Float[Tensor, "B K h w"], reference: Float[Tensor, "B 1 h w"], inside: Bool[Tensor, "B K h w"]
) -> Float[Tensor, "B K"]:
    side = max(3, round(min(reference.shape[-2:]) / WINDOWS))

    def windows(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, side, max(1, side // 2))

    seen = reference * inside
    product, first, second = windows(sampled * seen), windows(sampled.square() * inside), windows(seen.square())
    correlation = product / (first * second).sqrt().clamp(min=1e-3)
    share = windows(inside.to(seen.dtype))
    return (correlation.clamp(0, SUREST).atanh().square() * share).mean((2, 3))


@constant
def _coordinates(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "{width}"], Float[Tensor, "{height}"]]:
    """Return the coordinates of the pixels from the middle."""
    y, x = (torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2 for side in (height, width))
    return x, y
