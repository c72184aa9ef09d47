"""Rotate images: angle -> sampling grid -> sampled image. The affine case uses the same steps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def rotation_theta(angle: Float[Tensor, "*n"], height: int, width: int) -> Float[Tensor, "*n 2 3"]:
    r"""Return the sampling matrix, in normalised coordinates, that rotates an H x W image by `angle` (radians).

    Normalised coordinates stretch each axis to [-1, 1]. The rotation of the pixels is conjugated by this stretch. So an
    image that is not square does not shear:

        theta = [[cos a, -sin a * H/W, 0],
                 [sin a * W/H, cos a,  0]]
    """
    c, s = angle.cos(), angle.sin()
    zero = torch.zeros_like(c)
    rows = (c, -s * (height / width), zero, s * (width / height), c, zero)
    return torch.stack(rows, -1).unflatten(-1, (2, 3))


def nearest_rotation(theta: Float[Tensor, "*n 2 3"], height: int, width: int) -> Float[Tensor, "*n"]:
    r"""Return the angle (radians) of the rotation nearest, in Frobenius norm, to the linear part of `theta`.

    For a matrix M in pixel space the angle is `atan2(M21 - M12, M11 + M22)`, the solution of the two-dimensional
    orthogonal Procrustes problem (P. Schoenemann, 1966). It is the inverse of `rotation_theta`.

    >>> angle = torch.tensor([0.5, -2.0])
    >>> torch.allclose(nearest_rotation(rotation_theta(angle, 20, 30), 20, 30), angle)
    True
    """
    m12, m21 = theta[..., 0, 1] * (width / height), theta[..., 1, 0] * (height / width)
    return torch.atan2(m21 - m12, theta[..., 0, 0] + theta[..., 1, 1])


def sampling_grid(theta: Float[Tensor, "n 2 3"], height: int, width: int) -> Float[Tensor, "n H W 2"]:
    r"""Return the point (x, y) where each output pixel is sampled: `F.affine_grid(theta, ..., align_corners=False)`.

    The rows of an affine grid have rank two: `grid[i, j] = u_j + y_i v`, with `u_j = x_j theta_x + t` for each column
    and `v = theta_y`. One multiply-add over contiguous rows computes it. That is many times cheaper than the matrix
    product with the coordinates of every pixel in `affine_grid`.
    """
    y = (2 * torch.arange(height, device=theta.device, dtype=theta.dtype) + 1 - height) / height
    x = (2 * torch.arange(width, device=theta.device, dtype=theta.dtype) + 1 - width) / width
    across, down, shift = (theta[:, None, :, k] for k in range(3))
    column = (across * x[:, None] + shift).flatten(1)[:, None]
    slope = down.expand(-1, width, -1).flatten(1)[:, None]
    return torch.addcmul(column, slope, y[:, None]).unflatten(-1, (width, 2))


def sample(
    image: Float[Tensor, "B C H W"], grid: Float[Tensor, "B h w 2"], mode: str = "bilinear"
) -> Float[Tensor, "B C h w"]:
    """Sample images at normalised coordinates, with zeros outside. The computation is at least in float32.

    `bilinear` sampling blurs more between the pixels than on them, so it leaves a trace of the angle in the image.
    `bicubic` sampling leaves hardly any trace, but its values can exceed the range of the image.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)  # coordinates in bf16 are wrong by whole pixels
    with torch.autocast(image.device.type, enabled=False):
        sampled = F.grid_sample(image.to(dtype), grid.to(dtype), mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.to(image.dtype)


def warp(
    image: Float[Tensor, "B C H W"], theta: Float[Tensor, "B *K 2 3"], mode: str = "bilinear"
) -> Float[Tensor, "B *K C H W"]:
    """Sample each image through each of its affine maps, with zeros outside. For the modes see `sample`.

    With K maps for each image, the pixels are not copied K times: the K grids are stacked along the height.
    """
    batch, channels, height, width = image.shape
    hypotheses = theta.shape[1:-2]
    with torch.autocast(image.device.type, enabled=False):
        theta = theta.to(torch.promote_types(image.dtype, torch.float32))
        grid = sampling_grid(theta.flatten(0, -3), height, width)
    stacked = sample(image, grid.view(batch, -1, width, 2), mode)
    if not hypotheses:
        return stacked
    return stacked.view(batch, channels, -1, height, width).transpose(1, 2).unflatten(1, hypotheses)


def rotate(
    image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B *K"], mode: str = "bilinear"
) -> Float[Tensor, "B *K C H W"]:
    """Rotate each image counter-clockwise by its angle (radians), or by each of its K angles.

    The result is differentiable in the image and in the angle. For the modes see `sample`.
    Source: M. Jaderberg et al., Spatial Transformer Networks, 2015, with the transformation restricted to rotations.

    >>> import math, torch
    >>> image = torch.arange(6.0).reshape(1, 1, 2, 3)
    >>> rotate(image, torch.tensor([math.pi])).round().int().tolist()
    [[[[5, 4, 3], [2, 1, 0]]]]
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(angle.dtype, torch.float32)
    return warp(image, rotation_theta(angle.to(dtype), height, width), mode)


def rotate_bicubic(image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    """Rotate images with values in [0, 1], by bicubic sampling. The angle is in radians.

    Bilinear sampling blurs by an amount that depends on the angle, and a network can learn to read the angle from it.
    Bicubic sampling overshoots, so the result is clamped to [0, 1].
    """
    return rotate(image, angle, "bicubic").clamp(0, 1)


def inscribed_disc(size: Sequence[int], device: torch.device | None = None, margin: float = 0.0) -> Bool[Tensor, "H W"]:
    """Mark the pixels of the largest centred disc that stays inside the image under every rotation.

    Its radius reaches to the centres of the outermost pixels, `(min(height, width) - 1) / 2`, less the margin.

    Args:
        size: height and width.
        device: of the result.
        margin: pixels.

    >>> inscribed_disc((3, 3)).int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    height, width = size
    y = 2 * torch.arange(height, device=device) - (height - 1)  # in half pixels: whole numbers are exact
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return y[:, None] ** 2 + x**2 <= max(min(height, width) - 1 - 2 * margin, 0) ** 2
