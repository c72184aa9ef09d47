"""Rotate images: angle -> sampling grid -> sampled image. The affine case uses the same steps."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.arguments import Count, NonNegative, check_values, checked, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import has_memory, without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.lanczos import sample_lanczos

Mode = Literal["bilinear", "bicubic", "lanczos", "nearest"]
PaddingMode = Literal["zeros", "border", "reflection"]
Point = tuple[float, float] | Float[Tensor, "2"] | Float[Tensor, "B 2"]

WHOLE = 1e-3  # pixels: an extent that is this near to a whole number is whole


@checked
def rotation_theta(angle: Float[Tensor, "*n"], height: Count, width: Count) -> Float[Tensor, "*n 2 3"]:
    r"""Return the sampling matrix, in normalised coordinates, that rotates an H x W image by `angle` (radians).

    Normalised coordinates stretch each axis to [-1, 1]. The rotation of the pixels is conjugated by this stretch. So an
    image that is not square does not shear:

        theta = [[cos a, -sin a * H/W, 0],
                 [sin a * W/H, cos a,  0]]
    """
    c, s = angle.cos(), angle.sin()
    zero = torch.zeros_like(c)
    rows = (c, s * (-height / width), zero, s * (width / height), c, zero)
    return torch.stack(rows, -1).unflatten(-1, (2, 3))


@checked
def nearest_rotation(theta: Float[Tensor, "*n 2 3"], height: Count, width: Count) -> Float[Tensor, "*n"]:
    r"""Return the angle (radians) of the rotation nearest, in Frobenius norm, to the linear part of `theta`.

    For a matrix M in pixel space the angle is `atan2(M21 - M12, M11 + M22)`, the solution of the two-dimensional
    orthogonal Procrustes problem (P. Schoenemann, 1966). It is the inverse of `rotation_theta`.

    >>> angle = torch.tensor([0.5, -2.0])
    >>> torch.allclose(nearest_rotation(rotation_theta(angle, 20, 30), 20, 30), angle)
    True
    """
    m12, m21 = theta[..., 0, 1] * (width / height), theta[..., 1, 0] * (height / width)
    return torch.atan2(m21 - m12, theta[..., 0, 0] + theta[..., 1, 1])


@checked
def sampling_grid(theta: Float[Tensor, "n 2 3"], height: Count, width: Count) -> Float[Tensor, "n H W 2"]:
    r"""Return the point (x, y) where each output pixel is sampled: `F.affine_grid(theta, ..., align_corners=False)`.

    Each coordinate is an outer sum, `x[i, j] = u_j + v_i`. One addition over contiguous rows computes it. That is many
    times cheaper than the matrix product with the coordinates of every pixel in `affine_grid`.
    """
    return _stacked_grids(theta[:, None], height, width)


def _stacked_grids(theta: Float[Tensor, "B K 2 3"], height: int, width: int) -> Float[Tensor, "B K*{height} {width} 2"]:
    """Return the K sampling grids of each image, one below the other.

    In memory all x stand before all y. `F.grid_sample` reads this order faster than pairs (x, y).
    """
    y, x = (_centres(side, theta.device, theta.dtype) for side in (height, width))
    across, down, shift = theta.transpose(1, 2).contiguous().unsqueeze(-2).unbind(-1)
    column, row = torch.addcmul(shift, across, x), down * y
    return (column.unsqueeze(-2) + row.unsqueeze(-1)).flatten(2, 3).permute(0, 2, 3, 1)


@constant
def _centres(pixels: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{pixels}"]:
    """Return the centres of the pixels along a side, in normalised coordinates."""
    return (2 * torch.arange(pixels, device=device, dtype=dtype) + 1 - pixels) / pixels


@checked
def sample(
    image: Float[Tensor, "B C H W"],
    grid: Float[Tensor, "B h w 2"],
    mode: Mode = "bilinear",
    padding_mode: PaddingMode = "zeros",
) -> Float[Tensor, "B C h w"]:
    """Sample images at normalised coordinates. The computation is at least in float32.

    Args:
        image: images.
        grid: points (x, y); -1 and 1 are the borders of the image.
        mode: `bilinear` sampling blurs more between the pixels than on them, so it leaves a trace of the angle in the
            image. `bicubic` sampling leaves hardly any trace, but its values can exceed the range of the image.
            So can those of `lanczos`, which keeps more of the fine detail by 6 x 6 pixels, and is the slowest.
            `nearest` copies values, such as labels; it has no gradient in the grid.
        padding_mode: of points outside the image: `zeros`, the nearest pixel of the `border`, or the pixel of the
            image's `reflection`.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)  # coordinates in bf16 are wrong by whole pixels
    with without_autocast(image):
        image_, grid = image.to(dtype), grid.to(dtype)
        if mode == "lanczos":
            sampled = sample_lanczos(image_, grid, padding_mode)
        else:
            sampled = F.grid_sample(image_, grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return sampled.to(image.dtype)


@checked
def warp(
    image: Float[Tensor, "B C H W"],
    theta: Float[Tensor, "B *K 2 3"],
    mode: Mode = "bilinear",
    padding_mode: PaddingMode = "zeros",
    size: tuple[Count, Count] | None = None,
) -> Float[Tensor, "B *K C h w"]:
    """Sample each image through each of its affine maps. For the modes see `sample`.

    With K maps for each image, the pixels are not copied K times: the K grids are stacked along the height.

    Args:
        image: images.
        theta: from normalised coordinates of the result to those of the image, as for `F.affine_grid`.
        mode: of the interpolation.
        padding_mode: of points outside the image.
        size: height and width of the result; None is the image's.
    """
    height, width = image.shape[-2:] if size is None else size
    hypotheses = theta.shape[1:-2]
    with without_autocast(image):
        count = math.prod(hypotheses)
        theta = theta.to(torch.promote_types(image.dtype, torch.float32)).reshape(image.shape[0], count, 2, 3)
        stacked = sample(image, _stacked_grids(theta, height, width), mode, padding_mode)
    if not hypotheses:
        return stacked
    return stacked.unflatten(2, (count, height)).transpose(1, 2).unflatten(1, hypotheses)


@checked
def rotate(
    image: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"] | Float[Tensor, "H W"],
    angle: float | Float[Tensor, "*K"],
    mode: Mode = "bilinear",
    *,
    center: Point | None = None,
    padding_mode: PaddingMode = "zeros",
    fill: float | Float[Tensor, "C"] = 0.0,
    expand: bool = False,
) -> Float[Tensor, "... h w"]:
    r"""Rotate each image counter-clockwise by its angle, or by each of its K angles.

    The result is differentiable in the image, the angle, the centre and the fill. On a GPU with Triton, bilinear
    rotations with zeros outside run as one kernel, `fused_rotation`. The speed of the kernel is not measured.

    Args:
        image: one image [H, W] or [C, H, W], or a batch [B, C, H, W].
        angle: radians. A number rotates all images; [B] holds one angle for each image of a batch. [B, K], or [K] for
            one image, rotates each image by K angles and returns [B, K, C, H, W], or [K, ..., H, W].
        mode: of the interpolation, see `sample`.
        center: the fixed point (column, row) in pixels; (0, 0) is the centre of the first pixel, as in kornia and
            OpenCV (torchvision counts from the pixel's corner: its numbers are larger by 1/2). None is the middle of
            the image, ((W - 1) / 2, (H - 1) / 2). A tensor [B, 2] holds a point for each image.
        padding_mode: what surrounds the image, see `sample`.
        fill: what surrounds the image if `padding_mode` is `zeros`: a value, or one for each channel.
        expand: enlarge the result so that it shows the whole image, as in torchvision. A batch gets the size that the
            largest of its images needs. A quarter turn gives exactly [W, H].

    Raises:
        InputError: if an argument does not fit.

    Source: M. Jaderberg et al., Spatial Transformer Networks, 2015, with the transformation restricted to rotations.

    >>> import math, torch
    >>> image = torch.arange(6.0).reshape(2, 3)
    >>> rotate(image, math.pi).round().int().tolist()
    [[5, 4, 3], [2, 1, 0]]
    >>> rotate(image, math.pi / 2, expand=True).round().int().tolist()
    [[2, 5], [1, 4], [0, 3]]
    """
    dims, (height, width) = image.ndim, image.shape[-2:]
    batch = image if dims == 4 else image.reshape(1, -1, height, width)
    given, number = angle, not isinstance(angle, Tensor)
    angle = _angles(angle, image)
    size, shift = (height, width), None
    if expand:
        if center is not None:
            raise InputError(
                "center: expected None with expand=True, which shows the whole image, got a point; leave one out"
            )
        size = _whole_size(given if number else angle, height, width)
    elif center is not None:
        shift = _shift(angle, center, batch)
    by_grid = partial(_by_grid, size=size, mode=mode, padding_mode=padding_mode)
    fused = _fused(batch, angle, shift, mode, padding_mode)
    rotated_by = by_grid if fused is None else partial(fused.rotate, size=size, formula=by_grid)
    if isinstance(fill, int | float) and fill == 0:
        rotated = rotated_by(batch, angle, shift)
    elif padding_mode != "zeros":
        raise InputError(f"fill: expected padding_mode='zeros', got {padding_mode!r}, which needs no fill")
    elif isinstance(fill, Tensor) and len(fill) != batch.shape[1]:
        raise InputError(f"fill: expected [{batch.shape[1]}], a value for each channel, got {described(fill)}")
    else:
        rotated = _filled(batch, fill, lambda pixels: rotated_by(pixels, angle, shift))
    if dims == 4:
        return rotated
    return rotated[0] if dims == 3 else rotated[0].squeeze(-3)


def _angles(angle: float | Tensor, image: Tensor) -> Float[Tensor, "B *K"]:
    """Return the angles of each image, at least in float32; one image is a batch of one."""
    if not isinstance(angle, Tensor):
        angle = torch.tensor(angle, device=image.device, dtype=torch.promote_types(image.dtype, torch.float32))
    angle = angle.to(torch.promote_types(angle.dtype, torch.float32))
    if image.ndim < 4:
        return angle[None]
    if angle.ndim and angle.shape[0] != image.shape[0]:
        raise InputError(
            f"angle: expected a number or a tensor [B] or [B, K] with B = {len(image)}, an angle for each image, got "
            f"{described(angle)}; angle[None] rotates one image by several angles"
        )
    return angle if angle.ndim else angle.expand(image.shape[0])


def _shift(
    angle: Float[Tensor, "B *K"], center: tuple[float, float] | Float[Tensor, "... 2"], image: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B *K 2"]:
    """Return what moves the fixed point of rotations from the middle of the image to `center` (pixels)."""
    height, width = image.shape[-2:]
    center = torch.as_tensor(center, device=angle.device, dtype=angle.dtype)
    if center.ndim == 2:
        if center.shape[0] != image.shape[0]:
            raise InputError(f"center: expected [2] or [{len(image)}, 2], got {described(center)}")
        center = center.view(-1, *[1] * (angle.ndim - 1), 2)
    point = (2 * center + 1) / center.new_tensor([width, height]) - 1
    linear = rotation_theta(angle, height, width)[..., :2]
    return point - (linear * point[..., None, :]).sum(-1)  # a matrix product can be in 16 bits


def _by_grid(
    image: Float[Tensor, "B C H W"],
    angle: Float[Tensor, "B *K"],
    shift: Float[Tensor, "B *K 2"] | None = None,
    *,
    size: tuple[int, int],
    mode: Mode,
    padding_mode: PaddingMode,
) -> Float[Tensor, "B *K C h w"]:
    """Rotate images, see `rotate`, by a sampling grid. `shift` is added to the sampling points."""
    height, width = image.shape[-2:]
    theta = rotation_theta(angle, height, width)
    if size != (height, width):
        theta = theta * theta.new_tensor([size[1] / width, size[0] / height, 1])
    if shift is not None:
        theta = torch.cat((theta[..., :2], shift[..., None]), -1)
    return warp(image, theta, mode, padding_mode, size)


def _fused(
    image: Tensor, angle: Tensor, shift: Tensor | None, mode: Mode, padding_mode: PaddingMode
) -> ModuleType | None:
    """Return the module `fused_rotation` if its kernels can rotate these images, else None."""
    if not image.is_cuda or (mode, padding_mode) != ("bilinear", "zeros") or image.dtype == torch.float64:
        return None
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not _has_triton():
        return None
    if not all(has_memory(each) for each in (image, angle, shift) if each is not None):
        return None
    from stnrot.geometry import fused_rotation  # here, because triton takes a while to import

    return fused_rotation if fused_rotation.works(image.device) else None


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _filled(
    image: Float[Tensor, "B C H W"], fill: float | Float[Tensor, "C"], rotated_by: Callable[[Tensor], Tensor]
) -> Float[Tensor, "B *K C h w"]:
    """Rotate images that are surrounded by a fill. Its weight is the share of a sample that lies outside the image.

    Inside the image the weight is exactly 0, without a rounding error. Else a large fill, such as -1e9 around labels,
    would change the image.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)
    fill = torch.as_tensor(fill, dtype=dtype, device=image.device).view(-1, 1, 1)
    ones = image.new_ones((), dtype=dtype).expand(image.shape[0], 1, *image.shape[2:])
    rotated = rotated_by(torch.cat((image.to(dtype), ones), 1))
    inside, outside = rotated[..., :-1, :, :], 1 - rotated[..., -1:, :, :]
    filled = torch.where(outside.abs() < 16 * torch.finfo(dtype).eps, inside, inside + fill * outside)
    return filled.to(image.dtype)


def _whole_size(angle: float | Tensor, height: int, width: int) -> tuple[int, int]:
    """Return the height and width that show the whole image under every angle.

    A side has the parity of the image's, as in torchvision, so that the pixels of a hardly rotated image stay in place.
    Where rotated images end between two whole pixels, as under quarter turns, the side is exact.
    """
    if isinstance(angle, Tensor):
        if not angle.numel():
            return height, width
        check_values("angle", angle)
        if not angle.isfinite().all():
            raise InputError("angle: expected finite angles with expand=True, got NaN or infinity")
        c, s = (each.abs().double().cpu() for each in (angle.detach().cos(), angle.detach().sin()))
        extents = [(c * side + s * other).max().item() for side, other in ((height, width), (width, height))]
    else:
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        extents = [cosine * height + sine * width, cosine * width + sine * height]
    sides = []
    for side, extent in zip((height, width), extents, strict=True):
        whole = round(extent)
        exact = abs(extent - whole) < WHOLE
        sides.append(whole if exact else side + 2 * math.ceil((extent - side) / 2))
    return sides[0], sides[1]


@checked
def rotate_bicubic(image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    """Rotate images with values in [0, 1], by bicubic sampling. The angle is in radians.

    Bilinear sampling blurs by an amount that depends on the angle, and a network can learn to read the angle from it.
    Bicubic sampling overshoots, so the result is clamped to [0, 1].
    """
    return rotate(image, angle, "bicubic").clamp(0, 1)


@checked
def inscribed_disc(
    size: Sequence[Count], device: torch.device | None = None, margin: NonNegative = 0.0
) -> Bool[Tensor, "H W"]:
    """Mark the pixels of the largest centred disc that stays inside the image under every rotation.

    Its radius reaches to the centres of the outermost pixels, `(min(height, width) - 1) / 2`, less the margin.

    Args:
        size: height and width.
        device: of the result.
        margin: pixels, at least 0. If it is more than the radius, at most the pixel in the middle is left.

    >>> inscribed_disc((3, 3)).int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    if len(size) != 2:
        raise InputError(f"size: expected two numbers, height and width, got {described(size)}")
    height, width = size
    device = torch.empty(0, device=device).device  # with the number of the GPU
    return _disc(height, width, device, margin).clone()  # a caller may write into it


@constant
def _disc(height: int, width: int, device: torch.device, margin: float) -> Bool[Tensor, "{height} {width}"]:
    y = 2 * torch.arange(height, device=device) - (height - 1)  # in half pixels: whole numbers are exact
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return y[:, None] ** 2 + x**2 <= max(min(height, width) - 1 - 2 * margin, 0) ** 2
