"""Pixels turned by any angle, of every mode and depth."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stnrot.geometry.planar import PaddingMode, rotation_theta, warp
from stnrot.image_kinds import to_floats
from stnrot.turning.frame import Frame, frame_size

BANDS_ALONE = ("CMYK", "YCbCr", "LAB")  # modes that would become RGB
STRIP = 2**20  # pixels that are sampled at once: their sampling grid takes 8 bytes for each


def turned(image: Image.Image, angle: float, frame: Frame) -> Image.Image:
    """Turn an image by an angle (radians, counter-clockwise), sampled once, bicubically.

    Its mode stays, except that one with a palette or a transparent colour becomes RGB, RGBA or LA. Outside it is
    transparent, or black if the mode has no transparency.
    """
    if image.mode in BANDS_ALONE:
        return Image.merge(image.mode, [turned(band, angle, frame) for band in image.split()])
    floats = to_floats(image, "image")
    height, width = frame_size(image.height, image.width, angle, frame)
    rows = max(1, STRIP // width)
    strips = [
        np.asarray(floats.restore(_strip(floats.planes, angle, (height, width), top, min(top + rows, height), frame)))
        for top in range(0, height, rows)
    ]
    return Image.fromarray(np.concatenate(strips))


def _strip(
    planes: Float[Tensor, "B P H W"], angle: float, size: tuple[int, int], top: int, bottom: int, frame: Frame
) -> Float[Tensor, "B P h w"]:
    """Return the rows from `top` to `bottom` of the turned image of a size."""
    (rows, columns), (height, width) = planes.shape[-2:], size
    exact = torch.tensor([angle], dtype=torch.float64)
    across, down, shift = rotation_theta(exact, rows, columns).unbind(-1)
    across, down = across * (width / columns), down * (height / rows)
    shift = shift + down * ((top + bottom) / height - 1)
    theta = torch.stack((across, down * ((bottom - top) / height), shift), -1).to(planes.dtype)
    padding: PaddingMode = "border" if frame == "crop" else "zeros"
    return warp(planes, theta, "bicubic", padding, (bottom - top, width))
