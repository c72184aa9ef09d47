"""Search the motion between two images coarsely: correlation at all angles and shifts, at one scale or several."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.geometry.constants import constant, vector
from stnrot.geometry.correlation import fast_length

ANGLES = 90  # an even number
DISC = 0.5  # radius of the part of the reference that is searched for, as a share of its shorter side
OUTSIDE = 0.27  # share of the disc's width that may lie outside the image
SHIFTED = 3.0  # what the score loses if an image is shifted by its whole side; small shifts are likelier
MOST_VALUES = 2**20  # of the correlations that are computed at once
PLAIN = 0.2  # of the mean contrast of the image; a plainer part of it counts as having this contrast


def search(
    image: Float[Tensor, "B 1 H W"],
    reference: Float[Tensor, "B 1 h w"],
    count: int,
    scales: Sequence[float],
    bonus: Float[Tensor, "B angles"] | None = None,
) -> Motion:
    r"""Return the `count` likeliest motions of an image onto its reference, the likeliest first.

    For each scale, the middle disc of the reference is rotated by ANGLES angles. For each angle, Fourier transforms
    give the correlation with the disc of the image at every position, normalised by the contrast of the image there:

        score(angle, u) = sum_z t(z) f(u + z) / (|t| sqrt(sum_z f(u + z)^2 - (sum_z f(u + z))^2 / n)),

    where t is the rotated disc of n pixels less its mean, and f the image, which is 0 outside. The motions are the
    local maxima over angle and scale of the highest score over all positions.

    Source of the normalisation: J. P. Lewis, Fast template matching, 1995.

    Args:
        image: images.
        reference: one for each image.
        count: how many motions.
        scales: that are searched.
        bonus: added to the score of each angle.
    """
    sides = (image.shape[-2], image.shape[-1])
    radii = [DISC * min(min(reference.shape[-2:]) / scale, *sides) for scale in scales]
    most = _outside(_width(max(radii)))
    size = (fast_length(sides[0] + most), fast_length(sides[1] + most))
    spectrum = torch.fft.rfft2(torch.cat((image, image.square()), 1), s=size)
    energy = image.square().mean((2, 3), keepdim=True)
    found = [
        _scores(spectrum, energy, reference, radius, scale, sides, size)
        for radius, scale in zip(radii, scales, strict=True)
    ]
    best, x, y = (torch.stack(each, 1) for each in zip(*found, strict=True))
    if bonus is not None:
        best = best + bonus[:, None]
    value, index = best.masked_fill(~_is_peak(best), -math.inf).flatten(1).topk(count, 1)
    level, k = index // ANGLES, index % ANGLES
    rows = best.gather(1, level[..., None].expand(-1, -1, ANGLES))
    left, right = (rows.gather(2, ((k + step) % ANGLES)[..., None])[..., 0] for step in (-1, 1))
    vertex = 0.5 * (left - right) / (left - 2 * value + right).clamp(max=-1e-6)  # of a parabola through three angles
    angle = (k + vertex.clamp(-0.5, 0.5)) * (2 * math.pi / ANGLES)
    motion = Motion.about_middle(angle, vector(tuple(scales), angle.device, angle.dtype)[level])
    return Motion(motion.linear, torch.complex(*(each.flatten(1).gather(1, index) for each in (x, y))))


def misplaced(
    x: Float[Tensor, "*#n"],
    y: Float[Tensor, "*#n"],
    scale: Float[Tensor, "*#n"] | float,
    image: Sequence[int],
    reference: Sequence[int],
) -> Float[Tensor, "*n"]:
    """Return the squared distance from where the reference lies inside the image, in units of its shorter side.

    Args:
        x: of the middle of the reference, from the middle of the image, in pixels.
        y: likewise.
        scale: of the motion.
        image: its height and width.
        reference: likewise.
    """
    free_y, free_x = ((a - b / scale) / 2 for a, b in zip(image, reference, strict=True))
    across, down = (x.abs() - free_x).clamp(min=0), (y.abs() - free_y).clamp(min=0)
    return (across.square() + down.square()) * (scale / min(reference)) ** 2


def _scores(
    spectrum: Complex[Tensor, "B 2 rows columns"],
    energy: Float[Tensor, "B 1 1 1"],
    reference: Float[Tensor, "B 1 h w"],
    radius: float,
    scale: float,
    sides: tuple[int, int],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"], Float[Tensor, "B A"]]:
    """Return the highest score for each angle, and where the middle of the reference is in the image then."""
    like = (energy.device, energy.dtype)
    tiny = torch.finfo(energy.dtype).tiny
    width = _width(radius)
    disc, pixels = _disc(width, radius, *like)
    grid = _grid(width, scale, reference.shape[-2], reference.shape[-1], *like)
    part = F.grid_sample(reference, grid.expand(len(reference), -1, -1, -1), align_corners=False)
    part = part.view(-1, ANGLES // 2, width, width) * disc
    part = part - part.sum((2, 3), keepdim=True) / pixels * disc
    part /= torch.linalg.vector_norm(part.flatten(2), dim=2).clamp(min=tiny)[..., None, None]
    placed, mask, half_turn = _spectra(width, radius, size, *like)
    spectrum = spectrum * placed
    x, y = _positions(width, sides, *like)
    total, squares = _correlation(spectrum * mask, size, len(y), len(x)).split(1, 1)
    contrast = (squares - total.square() / pixels).maximum((energy * PLAIN * pixels).clamp(min=tiny)).rsqrt()
    cost = _cost(width, scale, sides, (reference.shape[-2], reference.shape[-1]), *like)
    found = []
    for some in part.split(max(1, MOST_VALUES // (2 * len(part) * math.prod(size))), 1):
        rotated = torch.fft.rfft2(some, s=size)
        # a disc that is rotated by 180 degrees more has the complex conjugate for its spectrum, but for a shift
        for product in (spectrum[:, :1] * rotated.conj(), spectrum[:, :1] * half_turn * rotated):
            score = _correlation(product, size, len(y), len(x)) * contrast - cost
            found.append(score.flatten(2).max(2))
    found = found[::2] + found[1::2]
    best, place = (torch.cat(each, 1) for each in zip(*found, strict=True))
    return best, x[place % len(x)], y[place // len(x)]


def _correlation(
    product: Complex[Tensor, "B K rows columns"], size: tuple[int, int], height: int, width: int
) -> Float[Tensor, "B K {height} {width}"]:
    """Return the first rows and columns of the inverse Fourier transform."""
    return torch.fft.irfft(torch.fft.ifft(product, dim=-2)[..., :height, :], size[1])[..., :width]


def _is_peak(score: Float[Tensor, "B S A"]) -> Tensor:
    """Return whether each score is the highest among those of the neighbouring scales and angles."""
    around = F.pad(score, (1, 1), "circular")
    return score >= F.max_pool2d(around, 3, 1, (1, 0))


def _width(radius: float) -> int:
    """Return the pixels along each side of a disc."""
    return 2 * math.ceil(radius) + 1


def _outside(width: int) -> int:
    """Return how many pixels a disc may stick out of the image."""
    return math.ceil(OUTSIDE * width)


@constant
def _positions(
    width: int, sides: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "columns"], Float[Tensor, "rows"]]:
    """Return the distances of the middles of disc and image, (x, y), at all positions."""
    most = _outside(width)
    y, x = (
        torch.arange(max(side - width, -most) + 2 * most + 1, device=device, dtype=dtype) - most - (side - width) / 2
        for side in sides
    )
    return x, y


@constant
def _cost(
    width: int,
    scale: float,
    sides: tuple[int, int],
    reference: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Float[Tensor, "rows columns"]:
    """Return what the score loses at each position."""
    x, y = _positions(width, sides, device, dtype)
    return SHIFTED * misplaced(x, y[:, None], scale, sides, reference)


@constant
def _disc(
    width: int, radius: float, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "{width} {width}"], Float[Tensor, ""]]:
    """Return 1 inside the disc and 0 outside, and the number of pixels inside."""
    z = torch.arange(width, device=device, dtype=dtype) - (width - 1) / 2
    disc = (z[:, None].square() + z.square() <= radius**2).to(dtype)
    return disc, disc.sum()


@constant
def _grid(
    width: int, scale: float, height: int, columns: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "1 rows {width} 2"]:
    """Return where the reference is sampled, so that its disc appears as in the image, for the first half circle."""
    z = (torch.arange(width, device=device, dtype=dtype) - (width - 1) / 2) * scale
    angle = torch.arange(ANGLES // 2, device=device, dtype=dtype)[:, None, None] * (2 * math.pi / ANGLES)
    c, s = angle.cos(), angle.sin()
    x, y = c * z + s * z[:, None], -s * z + c * z[:, None]
    return torch.stack((x * (2 / columns), y * (2 / height)), -1).flatten(0, 1)[None]


@constant
def _spectra(
    width: int, radius: float, size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Complex[Tensor, "rows columns"], Complex[Tensor, "rows columns"], Complex[Tensor, "rows columns"]]:
    """Return factors of a spectrum: to begin at the first position, to correlate with the disc, for half a turn."""
    rows, columns = (torch.arange(length, device=device, dtype=dtype) / length for length in size)
    phase = 2 * math.pi * (rows[:, None] + columns[: size[1] // 2 + 1])
    one = torch.ones_like(phase)
    mask = torch.fft.rfft2(_disc(width, radius, device, dtype)[0], s=size).conj()
    return torch.polar(one, -_outside(width) * phase), mask, torch.polar(one, (width - 1) * phase)
