"""Refine motions by Gauss-Newton steps on a robust photometric error, and score them."""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.geometry.constants import constant, vector

MOST = (2.0, 2.0, 0.1, 0.05)  # of one step: shift along each axis in pixels, turn in radians, logarithm of the growth
LEAST_SCALE = 0.05  # of the residuals, in units of the contrast
# times the mean of the residuals is the scale of the robust error: ROBUST where much may be hidden, EFFICIENT where the
# motion is nearly right (normal noise then costs a twentieth of the precision)
ROBUST, EFFICIENT = 1.2, 4.0
WINDOWS = 4  # along the shorter side of the reference; they overlap by half
CONVERGED = 0.01  # pixels; the step after a smaller one of `polish` would be a tenth of it
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
    slopes = _slopes(reference, scaled)[:, 0]
    products = (slopes[:, :, None] * slopes[:, None]).flatten(1, 2).mT
    image = _with_inside(image)
    for _ in range(steps):
        residual, inside = _residual(image, reference, motion)
        weight = _weight(residual, inside, ROBUST)
        hessian = (weight @ products).unflatten(2, (slopes.shape[1],) * 2)
        motion = _moved(motion, _step(hessian, (weight * residual) @ slopes.mT))
    return motion, _evidence(*_sampled(image, motion, *reference.shape[-2:]), reference)


def polish(
    image: Float[Tensor, "B 1 H W"], reference: Float[Tensor, "B 1 h w"], motion: Motion, steps: int, scaled: bool
) -> Motion:
    """Return one motion of each image after up to `steps` steps, which weigh all pixels alike; compare `refine`.

    The residual is `image(q_p) - gain reference(p) - offset`; gain and offset are found with the motion. Noise is the
    same everywhere, so an equal local contrast would enlarge it where little is to be seen. Both images are linearised
    here: the mean of their slopes is less noisy than that of the reference (S. Benhimane and E. Malis, Real-time
    image-based tracking of planes using efficient second-order minimization, 2004).
    """
    height, width = reference.shape[-2:]
    image, grey = _with_inside(image), reference.flatten(2)
    ones = torch.ones_like(grey)
    gain = vector((1.0, 0.0), image.device, image.dtype).expand(len(image), 1, 2)
    converged = _converged(4 if scaled else 3, height, width, image.device, image.dtype)
    moving: Tensor | float = 1.0
    for _ in range(steps):
        sampled, inside = (each.flatten(2) for each in _sampled(image, motion, height, width, "bicubic"))
        expected = torch.addcmul(gain[..., 1:], gain[..., :1], grey)
        residual = torch.addcmul(sampled, inside, expected, value=-1)
        weight = _weight(residual, inside, EFFICIENT)
        mean = torch.add(sampled, expected).mul_(0.5).view_as(reference)
        columns = torch.cat((_slopes(mean, scaled)[:, 0], grey, ones, residual), 1)
        products = torch.bmm(columns[:, :-1] * weight, columns.mT)[:, None]
        step = _step(products[..., :-1], products[..., -1])
        step = step * moving  # an image that has converged stays, so that it does not depend on the rest of its batch
        motion, gain = _moved(motion, step[..., :-2]), gain + step[..., -2:]
        moving = (step[..., :-2].abs() > converged).any(2, keepdim=True)
        if not moving.any():
            break
    return motion


def _with_inside(image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2 H W"]:
    """Append a channel of ones, which is sampled as 0 outside the image."""
    return torch.cat((image, torch.ones_like(image)), 1)


def _sampled(
    image: Float[Tensor, "B 2 H W"], motion: Motion, height: int, width: int, mode: str = "bilinear"
) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K h w"]]:
    """Sample image and ones where each pixel of the reference is."""
    x, y = _coordinates(height, width, image.device, image.dtype)
    half = vector((image.shape[-1] / 2, image.shape[-2] / 2), image.device, image.dtype)
    # of a step to the right, a step down, and the middle; complex numbers write both coordinates of a point at once
    steps = torch.stack((motion.linear, motion.linear * 1j, motion.offset), -1)
    right, down, middle = torch.view_as_complex(torch.view_as_real(steps) / half).unbind(-1)
    along = torch.addcmul(middle[..., None], right[..., None], x)
    grid = torch.view_as_real(along[..., None, :] + (down[..., None] * y)[..., None])
    sampled = F.grid_sample(image, grid.flatten(1, 2), mode, align_corners=False)
    values, inside = sampled.unflatten(2, (-1, height)).unbind(1)
    return values, inside.clamp(min=0)


def _residual(
    image: Float[Tensor, "B 2 H W"], reference: Float[Tensor, "B 1 h w"], motion: Motion
) -> tuple[Float[Tensor, "B K pixels"], Float[Tensor, "B K pixels"]]:
    sampled, inside = _sampled(image, motion, *reference.shape[-2:])
    return torch.addcmul(sampled, inside, reference, value=-1).flatten(2), inside.flatten(2)


def _slopes(image: Float[Tensor, "B K h w"], scaled: bool) -> Float[Tensor, "B K parameters pixels"]:
    """Return the derivatives of an image by a shift, a rotation and perhaps a growth of its points."""
    height, width = image.shape[-2:]
    x, y = (each.real for each in _coordinates(height, width, image.device, image.dtype))
    image = image / 2
    across = F.pad(image[..., 2:] - image[..., :-2], (1, 1))
    down = F.pad(image[..., 2:, :] - image[..., :-2, :], (0, 0, 1, 1))
    growth = (across * x + down * y[:, None],) if scaled else ()
    return torch.stack((across, down, down * x - across * y[:, None], *growth), 2).flatten(3)


def _weight(
    residual: Float[Tensor, "B K pixels"], inside: Float[Tensor, "B K pixels"], cut: float
) -> Float[Tensor, "B K pixels"]:
    """Return the weights of Cauchy's error, whose scale is `cut` times the mean of the residuals."""
    scale = cut * residual.abs().sum(2, keepdim=True) / inside.sum(2, keepdim=True).clamp(min=1)
    unit = residual / scale.clamp(min=LEAST_SCALE)
    return inside / torch.addcmul(torch.ones_like(scale), unit, unit)


def _step(hessian: Float[Tensor, "B K n n"], gradient: Float[Tensor, "B K n"]) -> Float[Tensor, "B K n"]:
    damping, least = _damping(gradient.shape[2], gradient.device, gradient.dtype)
    return torch.linalg.solve_ex(torch.addcmul(least, hessian, damping), gradient)[0]


def _moved(motion: Motion, step: Float[Tensor, "B K parameters"]) -> Motion:
    """Return the motions after a step: shift, turn and perhaps growth."""
    step = step.clamp(*_limits(step.shape[2], step.device, step.dtype))
    turn = step[..., 2]
    growth = step[..., 3] if step.shape[2] > 3 else torch.zeros_like(turn)
    linear = motion.linear * torch.complex(growth, turn).neg_().exp_()
    return Motion(linear, motion.offset - linear * torch.complex(step[..., 0], step[..., 1]))


def _evidence(
    sampled: Float[Tensor, "B K h w"], inside: Float[Tensor, "B K h w"], reference: Float[Tensor, "B 1 h w"]
) -> Float[Tensor, "B K"]:
    side = max(3, round(min(reference.shape[-2:]) / WINDOWS))

    def windows(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, side, max(1, side // 2))

    seen = reference * inside
    product, first, second, share = (windows(x) for x in (sampled * seen, sampled.square(), seen.square(), inside))
    correlation = product / (first * second).sqrt().clamp(min=1e-3)
    return (correlation.clamp(0, SUREST).atanh().square() * share).mean((2, 3))


@constant
def _coordinates(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Complex[Tensor, "{width}"], Complex[Tensor, "{height}"]]:
    """Return the coordinates of the pixels from the middle, as complex numbers without imaginary part."""
    x, y = (torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2 for side in (width, height))
    return x.to(dtype.to_complex()), y.to(dtype.to_complex())


@constant
def _damping(
    count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "{count} {count}"], Float[Tensor, "{count} {count}"]]:
    """Return factors and summands of the elements of a Hessian, with which it can be solved."""
    identity = torch.eye(count, device=device, dtype=dtype)
    return 1 + 1e-3 * identity, 1e-6 * identity


@constant
def _limits(count: int, device: torch.device, dtype: torch.dtype) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Return the least and the most of one step."""
    most = torch.tensor(MOST[:count], device=device, dtype=dtype)
    return -most, most


@constant
def _converged(count: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "n"]:
    """Return the steps that move no pixel by more than about CONVERGED: shift, turn and perhaps growth."""
    turn = 2 * CONVERGED / min(height, width)
    return torch.tensor((CONVERGED, CONVERGED, turn, turn)[:count], device=device, dtype=dtype)
