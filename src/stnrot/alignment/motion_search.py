"""Search the angle and the shift between two images coarsely: correlation at all angles and shifts."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.geometry.constants import constant
from stnrot.geometry.correlation import fast_length

ANGLES = 90
DISC = 0.43  # radius of the part of the reference that is searched for, as a share of its shorter side
OUTSIDE = 0.27  # share of the disc's width that may lie outside the image
SHIFTED = 3.0  # what the score loses if an image is shifted by its whole side; small shifts are likelier
MOST_VALUES = 2**22  # of the correlations that are computed at once
PLAIN = 0.2  # of the mean contrast of the image; a plainer part of it counts as having this contrast


def search(
    image: Float[Tensor, "B 1 H W"], reference: Float[Tensor, "B 1 h w"], count: int, scaled: bool = False
) -> Motion:
    r"""Return the `count` likeliest motions of an image onto its reference, the likeliest first.

    The middle disc of the reference is rotated by ANGLES angles. For each, Fourier transforms give the correlation with
    the disc of the image at every position, each normalised by the contrast of the image there:

        score(angle, u) = sum_z t(z) f(u + z) / (|t| sqrt(sum_z f(u + z)^2 - (sum_z f(u + z))^2 / n)),

    where t is the rotated disc of n pixels less its mean, and f the image, which is 0 outside. The motions are the
    local maxima over the angle of the highest score over all positions.

    Source of the normalisation: J. P. Lewis, Fast template matching, 1995.
    """
    height, width = image.shape[-2:]
    like = (image.device, image.dtype)
    radius = DISC * min(reference.shape[-2:])
    side = 2 * math.ceil(radius) + 1
    most = math.ceil(OUTSIDE * side)
    size = (fast_length(height + most), fast_length(width + most))
    disc, pixels = _disc(side, radius, *like)
    grid = _grid(side, reference.shape[-2], reference.shape[-1], *like)
    part = F.grid_sample(reference, grid.expand(len(reference), -1, -1, -1), align_corners=False)
    part = part.view(-1, ANGLES, side, side) * disc
    part = part - part.sum((2, 3), keepdim=True) / pixels * disc
    contrast = torch.linalg.vector_norm(part.flatten(2), dim=2)
    spectrum = torch.fft.rfft2(torch.cat((image, image.square()), 1), s=size)
    total, squares = torch.fft.irfft2(spectrum * _spectrum(side, radius, size, *like), s=size).split(1, 1)
    plain = image.square().mean((2, 3), keepdim=True) * PLAIN * pixels
    at_each = (squares - total.square() / pixels).maximum(plain.clamp(min=torch.finfo(image.dtype).tiny)).rsqrt()
    slack = (height - side, width - side)
    y, x = (_positions(most, each, *like) for each in slack)
    cost = _cost(most, slack, (height, width), (reference.shape[-2], reference.shape[-1]), *like)
    part /= contrast.clamp(min=torch.finfo(image.dtype).tiny)[..., None, None]
    at_each = _around_zero(at_each, most, *slack)
    found = []
    for some in part.split(max(1, MOST_VALUES // (len(image) * math.prod(size))), 1):
        product = torch.fft.irfft2(spectrum[:, :1] * torch.fft.rfft2(some, s=size).conj(), s=size)
        found.append((_around_zero(product, most, *slack) * at_each - cost).flatten(2).max(2))
    best, place = (torch.cat(each, 1) for each in zip(*found, strict=True))
    is_peak = (best >= best.roll(1, 1)) & (best >= best.roll(-1, 1))
    value, k = best.masked_fill(~is_peak, -1).topk(count, 1)
    left, right = (best.gather(1, (k + step) % ANGLES) for step in (-1, 1))
    vertex = 0.5 * (left - right) / (left - 2 * value + right).clamp(max=-1e-6)  # of a parabola through three angles
    place = place.gather(1, k)
    offset = torch.stack((x[place % len(x)], y[place // len(x)]), -1)
    angle = (k + vertex.clamp(-0.5, 0.5)) * (2 * math.pi / ANGLES)
    return Motion(angle, offset, torch.ones_like(angle))


def misplaced(
    x: Float[Tensor, "*#n"], y: Float[Tensor, "*#n"], image: Sequence[int], reference: Sequence[int]
) -> Float[Tensor, "*n"]:
    """Return the squared distance from where the reference lies inside the image, in units of its shorter side.

    Args:
        x: of the middle of the reference, from the middle of the image, in pixels.
        y: likewise.
        image: its height and width.
        reference: likewise.
    """
    free_y, free_x = ((a - b) / 2 for a, b in zip(image, reference, strict=True))
    across, down = ((each.abs() - most).clamp(min=0) for each, most in ((x, free_x), (y, free_y)))
    return (across.square() + down.square()) / min(reference) ** 2


def _around_zero(x: Float[Tensor, "B A H W"], most: int, height: int, width: int) -> Float[Tensor, "B A h w"]:
    """Return the positions from `-most` to `height + most` and `width + most` of a periodic array."""
    rows = torch.cat((x[..., -most:, :], x[..., : max(height, -most) + most + 1, :]), -2)
    return torch.cat((rows[..., -most:], rows[..., : max(width, -most) + most + 1]), -1)


@constant
def _positions(most: int, slack: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "n"]:
    """Return the distances of the middles of disc and image at the positions of `_around_zero`."""
    return torch.arange(max(slack, -most) + 2 * most + 1, device=device, dtype=dtype) - (most + slack / 2)


@constant
def _cost(
    most: int,
    slack: tuple[int, int],
    image: tuple[int, int],
    reference: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Float[Tensor, "h w"]:
    """Return what the score loses at each position."""
    y, x = (_positions(most, each, device, dtype) for each in slack)
    return SHIFTED * misplaced(x, y[:, None], image, reference)


@constant
def _disc(
    side: int, radius: float, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "{side} {side}"], Float[Tensor, ""]]:
    """Return 1 inside the disc and 0 outside, and the number of pixels inside."""
    z = torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2
    disc = (z[:, None].square() + z.square() <= radius**2).to(dtype)
    return disc, disc.sum()


@constant
def _grid(
    side: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "1 rows {side} 2"]:
    """Return where the reference is sampled, so that its disc appears rotated back by each angle."""
    z = torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2
    angle = torch.arange(ANGLES, device=device, dtype=dtype)[:, None, None] * (2 * math.pi / ANGLES)
    c, s = angle.cos(), angle.sin()
    x, y = c * z + s * z[:, None], -s * z + c * z[:, None]
    return torch.stack((x * (2 / width), y * (2 / height)), -1).flatten(0, 1)[None]


@constant
def _spectrum(
    side: int, radius: float, size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Complex[Tensor, "rows columns"]:
    return torch.fft.rfft2(_disc(side, radius, device, dtype)[0], s=size).conj()
