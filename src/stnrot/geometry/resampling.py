"""Sample images on circles, and shrink them. The weights depend on sizes alone and are kept.

On a CPU, torch's functions compute the weights of each point again for every image, and load the pixels one by one.
Here each row of a table holds one pixel of all images (or one row of pixels), and `embedding_bag` multiplies a weight
with a whole row. That is fast for float32 on a CPU. In all other cases torch's functions sample.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.constants import constant

SHARPNESS = -0.75  # of the bicubic kernel, as in `grid_sample`
MOST_POINTS = 2**16  # on circles, whose weights are kept; as many as an image of 200 pixels has


def sample_circles(
    image: Float[Tensor, "B C H W"], circles: int, angles: int, reach: float
) -> Float[Tensor, "B C {circles} {angles}"]:
    """Sample images bicubically on centred circles; multiply by the root of the share that a ring has of the disc.

    Circle i has the radius `(i + 1/2) / circles * reach`, in units of half the shorter side. Direction j is the angle
    `2 pi j / angles`, counter-clockwise as displayed, from the right. Outside the image are the pixels of its border.

    Source of the kernel: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
    """
    size = (image.shape[-2], image.shape[-1], circles, angles, reach)
    if circles * angles <= MOST_POINTS and _is_fast(image):
        return _sample_by_weights(image, *size)
    grid, root = _grid(*size, image.device, image.dtype)
    grid = grid.expand(len(image), -1, -1, -1)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False) * root


def shrink(image: Float[Tensor, "B C H W"], height: int, width: int) -> Float[Tensor, "B C {height} {width}"]:
    """Shrink images with antialiasing, as `F.interpolate(mode="bilinear", antialias=True)` does."""
    if not _is_fast(image):
        return resize(image, height, width)
    for side in (height, width):  # of the dimension before the last; then the two change places
        pixel, weight = _triangles(image.shape[-2], side)
        table = image.movedim(-2, 0)
        rows = F.embedding_bag(pixel, table.reshape(len(table), -1), mode="sum", per_sample_weights=weight)
        image = rows.view(side, *table.shape[1:]).movedim(0, -1)
    return image


def resize(image: Float[Tensor, "B C H W"], height: int, width: int) -> Float[Tensor, "B C {height} {width}"]:
    """Resize images as `F.interpolate(mode="bilinear", antialias=True)` does.

    An exported graph has two matrix products instead: few runtimes resize with antialiasing.
    """
    if not torch.compiler.is_exporting():
        wide = at_least_float32(image) if image.is_cpu else image  # torch resizes no 16 bits on a CPU
        resized = F.interpolate(wide, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
        return resized.to(image.dtype)
    down, across = (
        _triangle_matrix(before, after, image.device, image.dtype)
        for before, after in zip(image.shape[-2:], (height, width), strict=True)
    )
    return down @ image @ across.T


def _is_fast(image: Tensor) -> bool:
    return image.is_cpu and image.dtype == torch.float32 and not image.requires_grad


def _sample_by_weights(
    image: Float[Tensor, "B C H W"], height: int, width: int, circles: int, angles: int, reach: float
) -> Float[Tensor, "B C {circles} {angles}"]:
    """Sample by kept weights. The rotated image has the same weights in rotated directions, so it is one more image."""
    turns = math.gcd(angles, 4 if height == width else 2)  # rotations that need no sampling
    pixel, weight, first, order = _cubic_weights(height, width, circles, angles, reach, turns)
    planes = image.reshape(-1, height * width)
    count = planes.shape[0]
    # two real numbers that are one complex number are moved in one step
    rows = torch.complex(*planes) if count == 2 else planes.T.contiguous()
    table = rows.index_select(0, order)
    table = (torch.view_as_real(table) if count == 2 else table).view(len(order) // turns, turns * count)
    # not of `torch.nn.functional`, which numbers the points in every call
    sampled, *_ = torch.embedding_bag(table, pixel, first, per_sample_weights=weight)
    sampled = sampled.view(circles, angles // turns, turns, count).permute(3, 0, 2, 1)
    return sampled.reshape(*image.shape[:2], circles, angles)


@constant
def _grid(
    height: int, width: int, circles: int, angles: int, reach: float, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "1 {circles} {angles} 2"], Float[Tensor, "{circles} 1"]]:
    """Return the points in the coordinates of `grid_sample`, and the root of the share of each circle."""
    circle = (torch.arange(circles, device=device, dtype=dtype) + 0.5) / circles
    direction = torch.arange(angles, device=device, dtype=dtype) * (2 * math.pi / angles)
    side, radius = min(height, width), circle[:, None] * reach
    x, y = radius * direction.cos() * (side / width), -radius * direction.sin() * (side / height)
    return torch.stack((x, y), -1)[None], (circle / circle.sum()).sqrt()[:, None]


@constant
def _cubic_weights(
    height: int, width: int, circles: int, angles: int, reach: float, turns: int
) -> tuple[Int[Tensor, "N"], Float[Tensor, "N"], Int[Tensor, "P"], Int[Tensor, "M"]]:
    """Return what sampling by weights needs. Pixels are the Q that have a weight; corners have none.

    Returns:
        The 16 pixels around each point in the first of `turns` equal parts of a circle; their weights; the place of the
        first pixel of each point; and for each pixel those that take its place when the image is rotated clockwise by
        0, 1, ... of these parts.
    """
    grid, root = _grid(height, width, circles, angles, reach, torch.device("cpu"), torch.float64)
    points = grid[0, :, : angles // turns]
    (columns, across), (rows, down) = (_cubic(points[..., k], side) for k, side in enumerate((width, height)))
    pixel = rows[..., :, None] * width + columns[..., None, :]
    weight = down[..., :, None] * across[..., None, :] * root[..., None, None]
    used, pixel = pixel.flatten().unique(return_inverse=True)
    order = torch.arange(height * width, dtype=torch.int32).view(height, width)
    rotated = torch.stack([order.rot90(-k * (4 // turns)).flatten() for k in range(turns)], 1)
    first = torch.arange(0, len(pixel), 16, dtype=torch.int32)
    return pixel.int(), weight.flatten().float(), first, rotated[used].flatten()


def _cubic(position: Float[Tensor, "D A"], side: int) -> tuple[Int[Tensor, "D A 4"], Float[Tensor, "D A 4"]]:
    """Return the four pixels around each position along an axis, and their weights."""
    place = ((position + 1) * side - 1)[..., None] / 2
    pixel = place.floor() + torch.arange(-1, 3)
    distance, a = (place - pixel).abs(), SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return pixel.long().clamp(0, side - 1), torch.where(distance <= 1, near, far)


@constant
def _triangle_matrix(
    before: int, after: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "{after} {before}"]:
    """Return the weight of each pixel along an axis in each pixel after resizing."""
    scale = before / after
    centre = (torch.arange(after, device=device, dtype=dtype)[:, None] + 0.5) * scale - 0.5
    distance = (torch.arange(before, device=device, dtype=dtype) - centre).abs() / max(scale, 1)
    weight = (1 - distance).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


@constant
def _triangles(before: int, after: int) -> tuple[Int[Tensor, "{after} n"], Float[Tensor, "{after} n"]]:
    """Return the pixels that make each pixel of a smaller image along an axis, and their weights."""
    scale = before / after
    centre = (torch.arange(after, dtype=torch.float64)[:, None] + 0.5) * scale - 0.5
    pixel = (centre - scale).ceil() + torch.arange(math.ceil(2 * scale) + 1)
    inside = (pixel >= 0) & (pixel < before)
    weight = (1 - (pixel - centre).abs() / scale).clamp(min=0) * inside
    return pixel.int().clamp(0, before - 1), (weight / weight.sum(1, keepdim=True)).float()
