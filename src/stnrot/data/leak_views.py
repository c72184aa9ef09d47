"""The leak check: views of upright images that tell whether a network reads the picture, or traces of its rotation."""

import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from stnrot.geometry import rotate, rotate_bicubic, warp

QUARTER = 90.0  # degrees
QUALITY = 75  # of JPEG, from 1 to 95
SCALE, SHIFT = 0.93, (0.031, -0.017)  # the shift is a share of half the side: a part of a pixel, if the image is small


class LeakView(NamedTuple):
    """Images that were rotated in one way, and the angles (radians) that rotate them back."""

    name: str
    image: Float[Tensor, "B C H W"]
    angle: Float[Tensor, "B"]


def leak_views(
    image: Float[Tensor, "B C H W"], rotation: Float[Tensor, "B"], quarters: Int[Tensor, "B"]
) -> Iterator[LeakView]:
    """Rotate upright images in five ways. A network that reads the picture finds the upright equally well in all.

    Sampling blurs by an amount that depends on the angle, and the 8 x 8 blocks of JPEG rotate with the picture. Both
    give away the angle modulo 90 degrees. The views differ in these traces:

    - `as trained`: rotated by bicubic sampling;
    - `bilinear`: rotated by bilinear sampling;
    - `JPEG after the rotation`: `as trained`, then compressed as JPEG of quality 75;
    - `scaled first`: scaled by 0.93 and shifted by bicubic sampling, then as trained. No block is where it was;
    - `quarter turns only`: rotated by a multiple of 90 degrees, which samples nothing.

    Args:
        image: upright images with values in [0, 1].
        rotation: angles (radians) of the first four views.
        quarters: number of quarter turns of the fifth. Of an image that is not square, the largest square in its
            middle is rotated, and the rest is black.
    """
    turned = rotate_bicubic(image, rotation)
    yield LeakView("as trained", turned, -rotation)
    yield LeakView("bilinear", rotate(image, rotation), -rotation)
    yield LeakView("JPEG after the rotation", _compressed(turned), -rotation)
    yield LeakView("scaled first", rotate_bicubic(_scaled(image), rotation), -rotation)
    yield LeakView("quarter turns only", _quarter_turned(image, quarters), -quarters * (math.pi / 2))


def leak_columns(errors: Sequence[Float[Tensor, "N"]]) -> dict[str, list[float]]:
    """Return for each view, from its signed errors in degrees, the shares within 45 and 5 degrees and the median error.

    The last column is the share within 5 degrees modulo 90.
    """
    sizes = [error.abs() for error in errors]
    modulo = [torch.remainder(error + QUARTER / 2, QUARTER) - QUARTER / 2 for error in errors]
    return {
        "within_45deg": [float((size <= 45).float().mean()) for size in sizes],
        "within_5deg": [float((size <= 5).float().mean()) for size in sizes],
        "median_deg": [float(size.quantile(0.5)) for size in sizes],
        "modulo_90_within_5deg": [float((error.abs() <= 5).float().mean()) for error in modulo],
    }


def worst_view(columns: dict[str, list[float]]) -> dict[str, float]:
    """Return the smallest share within 45 and within 5 degrees, and the largest median error, of all views."""
    worst = {"within_45deg": min, "within_5deg": min, "median_deg": max}
    return {name: choose(columns[name]) for name, choose in worst.items()}


def _compressed(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    pixels = (image * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(np.stack([_jpeg(each) for each in pixels])).to(image).permute(0, 3, 1, 2) / 255


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=QUALITY)
    return np.atleast_3d(np.asarray(Image.open(file)))


def _scaled(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    rows = [[1 / SCALE, 0, SHIFT[0]], [0, 1 / SCALE, SHIFT[1]]]
    theta = torch.tensor(rows, device=image.device, dtype=image.dtype).expand(len(image), 2, 3)
    return warp(image, theta, "bicubic", "reflection").clamp(0, 1)


def _quarter_turned(image: Float[Tensor, "B C H W"], quarters: Int[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[..., top : top + side, left : left + side]
    turned = torch.zeros_like(image)
    for count in range(4):
        chosen = quarters == count
        turned[chosen, :, top : top + side, left : left + side] = torch.rot90(square[chosen], count, (-2, -1))
    return turned
