"""Pictures on a polar grid, where a rotation is a circular shift."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.planar import sample


def to_polar(
    image: Float[Tensor, "B C H W"], radii: int, angles: int, halo: int = 0
) -> Float[Tensor, "B C {radii} {angles}+2*{halo}"]:
    r"""Sample pictures bilinearly at `angles` directions (columns) on `radii` centred circles (rows).

    The circles have the radii `(i + 1/2) / radii * (min(height, width) - 1) / 2` pixels, all within the
    centres of the outermost pixels; the directions `2 pi j / angles` run counter-clockwise as displayed, from
    the right: turning a picture by `2 pi k / angles` moves column j to column j + k, also in one that is not square.

    A grid that is coarser than the pixels averages over a finer one, so that none is skipped; the finer
    grid has the same directions on every circle, which keeps a turn a shift.

    Args:
        image: any size.
        radii: circles.
        angles: directions.
        halo: columns repeated on either side. A stack of `halo` convolutions of width 3 without padding
            then computes what circular padding would, and no layer has to pad.
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(image.dtype, torch.float32)
    side = min(height, width)
    finer = max(1, math.ceil(side / (2 * radii)))
    circle = torch.arange(finer * radii, device=image.device, dtype=dtype) + 0.5
    radius = circle[:, None] * ((side - 1) / (2 * finer * radii))
    column = torch.arange(-halo * finer, (angles + halo) * finer, device=image.device, dtype=dtype)
    direction = (column - (finer - 1) / 2) * (2 * math.pi / (finer * angles))
    grid = torch.stack((radius * direction.cos() * (2 / width), -radius * direction.sin() * (2 / height)), -1)
    sampled = sample(image, grid.expand(len(image), -1, -1, -1))
    return F.avg_pool2d(sampled, finer) if finer > 1 else sampled
