"""Rotate training images at random so that what can be learned is the picture, not the traces of sampling."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry import rotation_theta, warp
from stnrot.geometry.jpeg import jpeg

ZOOM = 1.3  # largest
SHIFT = 0.1  # largest, as a share of half the side
COMPRESSED = 0.4  # share of the images
QUALITY = 50.0  # of their compression, at least


def random_views(images: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B"]]:
    """Return each image rotated by a random angle, and the angles (radians, uniform on the circle).

    Sampling leaves traces that tell the angle against the pixel grid, and the 8 x 8 blocks of JPEG turn with the
    picture. A network that reads them is exact in training and wrong on other images. So each image is first blurred by
    a random part of 0 to 0.7 pixels, and it is zoomed and shifted at random in the same bicubic sampling as the
    rotation. The zoom is at least 1 and the shift so small that no border comes into the inscribed disc: a straight
    border would tell the angle too. Outside, the pixels of the border are repeated. Four in ten images are then
    compressed as JPEG, which adds blocks that do not turn with the picture.

    Args:
        images: with values in [0, 1].
    """
    shape, device = (len(images),), images.device
    dtype = torch.promote_types(images.dtype, torch.float32)
    uniform = torch.rand(7, *shape, device=device, dtype=dtype)
    angle, scale = (2 * uniform[0] - 1) * math.pi, 1 / (1 + (ZOOM - 1) * uniform[1])
    shift = (2 * uniform[2:4] - 1) * (1 - scale).clamp(max=SHIFT)
    images = images.lerp(_blurred(images), uniform[4].to(images.dtype)[:, None, None, None])
    height, width = images.shape[-2:]
    linear = rotation_theta(angle, height, width)[..., :2] * scale[:, None, None]
    views = warp(images, torch.cat((linear, shift.T[..., None]), -1), "bicubic", "border")
    compressed = (uniform[5] < COMPRESSED)[:, None, None, None]
    return torch.where(compressed, jpeg(views, QUALITY + (100 - QUALITY) * uniform[6]), views), angle


def _blurred(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Average by (1, 2, 1) / 4 along both sides, a blur of 0.7 pixels. On a CPU, `conv2d` takes seven times as long."""
    sums = F.pad(images, (1, 1, 1, 1), mode="replicate")
    for dim in (2, 2, 3, 3):
        count = sums.shape[dim] - 1
        sums = sums.narrow(dim, 0, count) + sums.narrow(dim, 1, count)
    return sums / 16
