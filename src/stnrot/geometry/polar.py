"""Sample images on a polar grid, where a rotation is a circular shift."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import Count, Natural, Positive, checked
from stnrot.geometry.autograd import without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.resampling import resize
from stnrot.geometry.tails import gaussian


@checked
def to_polar(
    image: Float[Tensor, "B C H W"],
    radii: Count,
    angles: Count,
    blur: Positive,
    halo: Natural = 0,
    centre: tuple[float, float] = (0.0, 0.0),
    share: Positive = 1.0,
) -> Float[Tensor, "B C {radii} {angles}+2*{halo}"]:
    r"""Sample images with a Gaussian at `angles` directions (columns) on `radii` centred circles (rows).

    The radius of circle i is `(i + 1/2) / radii * (min(height, width) - 1) / 2` pixels. All circles lie inside the
    centres of the outermost pixels. Direction j is the angle `2 pi j / angles`, counter-clockwise as displayed, from
    the right. A rotation of the image by `2 pi k / angles` moves column j to column j + k, even if the image is not
    square.

    A value is a sum over all pixels, `sum_q image[q] exp(-|p - q|^2 / 2 s^2) / (2 pi s^2)`, with zeros outside. A
    Gaussian is round and hides the pixel grid: the share `exp(-2 pi^2 s^2)` of the frequency of the grid remains, 3e-6
    for s = 0.8 pixels. Bilinear sampling leaves one per cent, and is not the same along the axes and the diagonals.

    If the circles would be more than one pixel apart, the image is first made smaller, with antialiasing. The
    computation is at least in float32; the result has the type of the image.

    Args:
        image: images of any size.
        radii: number of circles.
        angles: number of directions.
        blur: standard deviation s of the Gaussian, in pixels of the image, or of the smaller image if it was made
            smaller.
        halo: columns that are repeated on both sides. Then a stack of `halo` convolutions of width 3 without padding
            gives the same result as circular padding in every layer.
        centre: (right, down) of the circles from the centre of the image, as shares of the shorter side.
        share: factor of the radii. With another centre, use less than 1 to keep the circles inside the image.

    >>> image = torch.rand(1, 1, 28, 28)
    >>> quarter = to_polar(torch.rot90(image, 1, (2, 3)), radii=8, angles=16, blur=0.8)
    >>> torch.allclose(quarter, to_polar(image, radii=8, angles=16, blur=0.8).roll(4, -1), atol=1e-4)
    True
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(image.dtype, torch.float32)  # coordinates in bf16 are wrong by whole pixels
    with without_autocast(image):
        dtype_given, image = image.dtype, image.to(dtype)
        pixel = max(1.0, share * min(height, width) / (2 * radii))  # size of a pixel of the smaller image, in pixels
        if pixel > 1:
            size = (max(round(height / pixel), 1), max(round(width / pixel), 1))
            image = resize(image, *size)
        options = (radii, angles, halo, centre, share, blur * pixel)
        weights = _gaussians((height, width), (image.shape[-2], image.shape[-1]), *options, image.device, dtype)
        return (image.flatten(2) @ weights).unflatten(-1, (radii, angles + 2 * halo)).to(dtype_given)


@constant
def _gaussians(
    size: tuple[int, int],
    pixels: tuple[int, int],
    radii: int,
    angles: int,
    halo: int,
    centre: tuple[float, float],
    share: float,
    blur: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Float[Tensor, "P N"]:
    """Return the weight of each pixel at each point of the polar grid.

    Args:
        size: height and width of the image.
        pixels: the same after the image was made smaller.
        radii: number of circles.
        angles: number of directions.
        halo: additional columns on both sides.
        centre: of the circles.
        share: factor of the radii.
        blur: standard deviation, in pixels of the original image.
        device: of the result.
        dtype: of the result.
    """
    side = min(size)
    circle = torch.arange(radii, device=device, dtype=dtype) + 0.5
    radius = circle[:, None] * (share * (side - 1) / (2 * radii))
    direction = torch.arange(-halo, angles + halo, device=device, dtype=dtype) * (2 * math.pi / angles)
    x, y = (offset * side for offset in centre)
    down = _weights(y - radius * direction.sin(), size[0], pixels[0], blur)
    right = _weights(x + radius * direction.cos(), size[1], pixels[1], blur)
    return (down[:, None] * right).flatten(0, 1)


def _weights(position: Float[Tensor, "D A"], side: int, pixels: int, blur: float) -> Float[Tensor, "{pixels} D*A"]:
    """Return the weight of each pixel along one axis at each position.

    A weight that is lost in the rounding of the sum is zero. Otherwise many weights and most of their products would be
    subnormal numbers, with which some processors compute a hundred times more slowly.

    Args:
        position: coordinates along the axis, from the centre of the image, in pixels of the original image.
        side: length of the axis, in pixels of the original image.
        pixels: number of pixels along the axis, less than `side` if the image was made smaller.
        blur: standard deviation, in pixels of the original image.
    """
    size = side / pixels
    centre = (torch.arange(pixels, device=position.device, dtype=position.dtype) - (pixels - 1) / 2) * size
    off = (centre[:, None] - position.flatten()) / blur
    return gaussian(off) * (size / (blur * math.sqrt(2 * math.pi)))
