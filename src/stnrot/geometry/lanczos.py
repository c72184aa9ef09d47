"""Sampling by the Lanczos kernel."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LOBES = 3  # pixels that the kernel reaches on each side


def sample_lanczos(
    image: Float[Tensor, "B C H W"], grid: Float[Tensor, "B h w 2"], padding_mode: str
) -> Float[Tensor, "B C h w"]:
    r"""Sample images at normalised coordinates by 6 x 6 pixels. The modes of padding are those of `F.grid_sample`.

    A pixel at the distance t along an axis has the weight `sinc(t) sinc(t / 3)`, divided by the sum of the six weights,
    so that a constant stays constant. Source: C. Duchon, Lanczos filtering in one and two dimensions, 1979.
    """
    height, width = image.shape[-2:]
    (column, across), (row, down) = (
        _taps(grid[..., k].flatten(1), side, padding_mode) for k, side in ((0, width), (1, height))
    )
    if padding_mode == "zeros":  # one row and column of zeros on each side stand for all pixels outside
        image, column, row, width = F.pad(image, (1, 1, 1, 1)), column + 1, row + 1, width + 2
    flat = image.flatten(2)
    total = torch.zeros_like(flat[..., :1])
    for k in range(2 * LOBES):
        place = (row[..., k : k + 1] * width + column).flatten(1)
        pixels = flat.gather(2, place[:, None].expand(-1, flat.shape[1], -1)).unflatten(2, (-1, 2 * LOBES))
        total = total + (pixels * (across * down[..., k : k + 1])[:, None]).sum(-1)
    return total.unflatten(2, grid.shape[1:3])


def _taps(
    coordinate: Float[Tensor, "B P"], side: int, padding_mode: str
) -> tuple[Int[Tensor, "B P 6"], Float[Tensor, "B P 6"]]:
    """Return the six pixels about each point along an axis, and their weights; -1 and `side` are outside the image."""
    position = ((coordinate + 1) * side - 1) / 2
    pixel = position.detach().floor().long()[..., None] + torch.arange(1 - LOBES, LOBES + 1, device=position.device)
    distance = position[..., None] - pixel
    weight = distance.sinc() * (distance / LOBES).sinc()
    weight = weight / weight.sum(-1, keepdim=True)
    if padding_mode == "zeros":
        return pixel.clamp(-1, side), weight
    if padding_mode == "reflection":
        pixel = pixel.remainder(2 * side)
        pixel = pixel.minimum(2 * side - 1 - pixel)
    return pixel.clamp(0, side - 1), weight
