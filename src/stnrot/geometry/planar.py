"""Rotation of pictures: angle -> sampling grid -> sampled picture, and the affine case beside it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def rotation_theta(angle: Float[Tensor, "*n"], height: int, width: int) -> Float[Tensor, "*n 2 3"]:
    r"""Return the sampling matrix, in normalised coordinates, that turns an H x W picture by `angle`.

    Normalised coordinates stretch each axis to [-1, 1], so the rotation of pixels is conjugated by that
    stretch, which is what keeps a picture that is not square from shearing:

        theta = [[cos a, -sin a * H/W, 0],
                 [sin a * W/H, cos a,  0]]
    """
    c, s = angle.cos(), angle.sin()
    zero = torch.zeros_like(c)
    rows = (c, -s * (height / width), zero, s * (width / height), c, zero)
    return torch.stack(rows, -1).unflatten(-1, (2, 3))


def nearest_rotation(theta: Float[Tensor, "*n 2 3"], height: int, width: int) -> Float[Tensor, "*n"]:
    r"""Return the angle of the rotation nearest, in Frobenius norm, to the linear part of `theta`.

    For a pixel-space matrix M that is `atan2(M21 - M12, M11 + M22)`, the two-dimensional orthogonal
    Procrustes solution (P. Schoenemann, 1966). Inverse of `rotation_theta`.
    """
    m12, m21 = theta[..., 0, 1] * (width / height), theta[..., 1, 0] * (height / width)
    return torch.atan2(m21 - m12, theta[..., 0, 0] + theta[..., 1, 1])


def sampling_grid(theta: Float[Tensor, "n 2 3"], height: int, width: int) -> Float[Tensor, "n H W 2"]:
    r"""Return where each output pixel is sampled: `F.affine_grid(theta, ..., align_corners=False)`.

    An affine grid is of rank two in its rows, `grid[i, j] = u_j + y_i v`, with `u_j = x_j theta_x + t` of
    a column and `v = theta_y`: one multiply-add over contiguous rows, many times cheaper than the matrix
    product with every pixel's coordinates that `affine_grid` does.
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
    """Sample `image` at normalised coordinates, zeros outside; never in less than float32.

    `bilinear` sampling blurs, more between the pixels than on them, and so leaves a trace of the turn; `bicubic` leaves
    hardly any, but overshoots the range of the image.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)  # bf16 coordinates are whole pixels wrong
    with torch.autocast(image.device.type, enabled=False):
        sampled = F.grid_sample(image.to(dtype), grid.to(dtype), mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.to(image.dtype)


def warp(
    image: Float[Tensor, "B C H W"], theta: Float[Tensor, "B *K 2 3"], mode: str = "bilinear"
) -> Float[Tensor, "B *K C H W"]:
    """Sample `image` through each affine map of `theta`, zeros outside; `sample` says what the modes do.

    With K maps an image, its pixels are not copied K times: the K grids stand above each other.
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
    """Turn each image counter-clockwise by its angle (radians), or by each of its K angles.

    Differentiable in both; `sample` says what the modes do. Source: M. Jaderberg et al., Spatial Transformer Networks,
    2015, with the transformation restricted to rotations.

    >>> import math, torch
    >>> picture = torch.arange(6.0).reshape(1, 1, 2, 3)
    >>> rotate(picture, torch.tensor([math.pi])).round().int().tolist()
    [[[[5, 4, 3], [2, 1, 0]]]]
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(angle.dtype, torch.float32)
    return warp(image, rotation_theta(angle.to(dtype), height, width), mode)


def rotate_bicubic(image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    """Rotate images with values in [0, 1] so that the sampling does not give the angle away.

    Bilinear sampling blurs by an amount that depends on the angle, and a network can learn to read it. Bicubic
    sampling overshoots, so the result is clamped to [0, 1].
    """
    return rotate(image, angle, "bicubic").clamp(0, 1)


def inscribed_disc(size: Sequence[int], device: torch.device | None = None, margin: float = 0.0) -> Bool[Tensor, "H W"]:
    """Mark the pixels of the largest centred disc that no rotation mixes with what lies outside the picture.

    Its radius reaches to the centres of the outermost pixels, `(min(height, width) - 1) / 2`, less a margin in pixels.
    """
    height, width = size
    y = 2 * torch.arange(height, device=device) - (height - 1)  # of half pixels: whole numbers, exact
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return y[:, None] ** 2 + x**2 <= max(min(height, width) - 1 - 2 * margin, 0) ** 2
