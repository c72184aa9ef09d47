"""Pictures on a polar grid, where a rotation is a circular shift."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def to_polar(
    image: Float[Tensor, "B C H W"],
    radii: int,
    angles: int,
    blur: float,
    halo: int = 0,
    centre: tuple[float, float] = (0.0, 0.0),
    share: float = 1.0,
) -> Float[Tensor, "B C {radii} {angles}+2*{halo}"]:
    r"""Read pictures through a Gaussian at `angles` directions (columns) on `radii` centred circles (rows).

    The circles have the radii `(i + 1/2) / radii * (min(height, width) - 1) / 2` pixels, all within the
    centres of the outermost pixels; the directions `2 pi j / angles` run counter-clockwise as displayed, from
    the right: turning a picture by `2 pi k / angles` moves column j to column j + k, also in one that is not square.

    A value is the sum over all pixels, `sum_q image[q] exp(-|p - q|^2 / 2 s^2) / (2 pi s^2)`, black outside. A Gaussian
    is round and hides where the pixels lie: of their frequency `exp(-2 pi^2 s^2)` is left, 3e-6 of it for s = 0.8
    pixels. Bilinear sampling leaves a per cent, and differs along the axes and across.

    A picture in which the circles would lie more than a pixel apart is first made smaller, with antialiasing.

    Args:
        image: any size.
        radii: circles.
        angles: directions.
        blur: s, in pixels of the picture or of the smaller one.
        halo: columns repeated on either side. A stack of `halo` convolutions of width 3 without padding
            then computes what circular padding would, and no layer has to pad.
        centre: of the circles, right of and below that of the picture, as shares of the shorter side.
        share: of the radii above that the circles have: less than 1 to stay inside the picture about another centre.
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(image.dtype, torch.float32)  # bf16 coordinates are whole pixels wrong
    with torch.autocast(image.device.type, enabled=False):
        given, image = image.dtype, image.to(dtype)
        pixel = max(1.0, share * min(height, width) / (2 * radii))  # of the smaller picture, in those of the given one
        if pixel > 1:
            size = (round(height / pixel), round(width / pixel))
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        circle = torch.arange(radii, device=image.device, dtype=dtype) + 0.5
        radius = circle[:, None] * (share * (min(height, width) - 1) / (2 * radii))
        direction = torch.arange(-halo, angles + halo, device=image.device, dtype=dtype) * (2 * math.pi / angles)
        x, y = (share * min(height, width) for share in centre)
        down = _weights(y - radius * direction.sin(), height, image.shape[-2], blur * pixel)
        right = _weights(x + radius * direction.cos(), width, image.shape[-1], blur * pixel)
        gaussian = (down[:, None] * right).flatten(0, 1)
        return (image.flatten(2) @ gaussian).unflatten(-1, (radii, angles + 2 * halo)).to(given)


def _weights(place: Float[Tensor, "D A"], side: int, pixels: int, blur: float) -> Float[Tensor, "{pixels} D*A"]:
    """Return what each of the `pixels` along a side weighs at each place, all in units of the given picture."""
    size = side / pixels
    centre = (torch.arange(pixels, device=place.device, dtype=place.dtype) - (pixels - 1) / 2) * size
    off = (centre[:, None] - place.flatten()) / blur
    return (-0.5 * off**2).exp() * (size / (blur * math.sqrt(2 * math.pi)))
