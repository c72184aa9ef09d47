"""Rotate images on a GPU by one Triton kernel, which computes the sampling points in registers and stores no grid.

Three kernels: the rotated images, the gradient in angle and shift, and the gradient in the image. Each program computes
a tile of `ROWS x COLUMNS` pixels. None of them uses atomic additions, so equal arguments give equal bits.

The sampling points are rounded in the order of `sampling_grid` and `F.grid_sample` on a CPU. A point on the border
between two pixels is otherwise on one side here and on the other there.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.geometry.autograd import gradients, has_memory

ROWS, COLUMNS = 8, 32  # of a tile: a warp writes 32 neighbours of a row
MOST_CHANNELS = 4  # whose gradients a program sums at once
SIZES = ["channels", "count", "height", "width", "out_height", "out_width"]
STRIDES = ["image_b", "image_c", "image_h", "image_w", "angle_b", "angle_k", "up_b", "up_k", "up_c", "up_h", "up_w"]

Formula = Callable[..., Tensor]


def rotate(
    image: Float[Tensor, "B C H W"],
    angle: Float[Tensor, "B *K"],
    shift: Float[Tensor, "B *K 2"] | None,
    size: tuple[int, int],
    formula: Formula,
) -> Float[Tensor, "B *K C h w"]:
    """Rotate images by bilinear sampling with zeros outside the image. Compute in float32.

    Args:
        image: images of at most 32 bits.
        angle: radians, counter-clockwise.
        shift: added to the sampling points, in normalised coordinates; None is zero.
        size: height and width of the result.
        formula: the same function of image [B, C, H, W], angle [B, K] and shift [B, K, 2] in operations of torch.
            Gradients that are differentiated again are computed by it.
    """
    hypotheses = angle.shape[1:]
    count = math.prod(hypotheses)
    angle = angle.reshape(len(image), count)
    shift = None if shift is None else shift.float().reshape(len(image), count, 2)
    rotated = _Rotate.apply(image, angle, shift, size, formula)
    return rotated.reshape(len(image), *hypotheses, *rotated.shape[2:])


@cache
def works(device: torch.device) -> bool:
    """Return whether the kernels run on a device. They need a GPU that Triton supports, and a C compiler."""
    try:
        _rotated(torch.zeros(1, 1, 1, 1, device=device), torch.zeros(1, 1, device=device), None, (1, 1))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"rotate takes a slower way on {device}, because Triton fails there: {reason}", stacklevel=4)
        return False
    return True


class _Rotate(Function):
    """The kernels with the gradients in image, angle [B, K] and shift [B, K, 2]."""

    generate_vmap_rule = True  # for calls under `torch.vmap` whose arguments are not batched

    @staticmethod
    def forward(image: Tensor, angle: Tensor, shift: Tensor | None, size: tuple[int, int], formula: Formula) -> Tensor:
        return _rotated(_with_short_strides(image), angle, shift, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, angle, shift, ctx.size, ctx.formula = inputs
        ctx.save_for_backward(image, angle, shift)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        image, angle, shift = ctx.saved_tensors
        if torch.is_grad_enabled() or not has_memory(upstream):
            inputs = [each for each in (image, angle, shift) if each is not None]
            found = gradients(ctx.formula, inputs, upstream)
            return *found, *[None] * (5 - len(found))
        to_image, to_angle, to_shift = ctx.needs_input_grad[:3]
        upstream, shift = _with_short_strides(upstream), None if shift is None else shift.contiguous()
        in_angle = in_shift = None
        if to_angle or to_shift:
            sums = _sums(_with_short_strides(image), angle, shift, upstream)
            in_angle, in_shift = sums[..., 0].to(angle.dtype), sums[..., 1:] if to_shift else None
        in_image = _in_image(image, angle, shift, upstream) if to_image else None
        return in_image, in_angle, in_shift, None, None


def _with_short_strides(x: Tensor) -> Tensor:
    """Copy a tensor if the offset of a pixel within its plane does not fit 32 bits."""
    reach = sum((side - 1) * step for side, step in zip(x.shape[-2:], x.stride()[-2:], strict=True))
    return x if reach < 2**31 else x.contiguous()


def _rotated(image: Tensor, angle: Tensor, shift: Tensor | None, size: tuple[int, int]) -> Float[Tensor, "B K C h w"]:
    """Return the rotated images."""
    (batch, channels, height, width), count = image.shape, angle.shape[1]
    shift = None if shift is None else shift.contiguous()
    rotated = image.new_empty(batch, count, channels, *size)
    tiles = triton.cdiv(size[0], ROWS) * triton.cdiv(size[1], COLUMNS)
    with torch.cuda.device_of(image):
        _forward_kernel[(batch * count * tiles,)](
            image, angle, shift, rotated, channels, count, height, width, *size, *image.stride(),
            *angle.stride(), ROWS, COLUMNS, enable_fp_fusion=False,
        )  # fmt: skip
    return rotated


def _sums(image: Tensor, angle: Tensor, shift: Tensor | None, upstream: Tensor) -> Float[Tensor, "B K 3"]:
    """Return the gradients in the angle and in both numbers of the shift."""
    (batch, channels, height, width), size, count = image.shape, upstream.shape[-2:], angle.shape[1]
    strips = triton.cdiv(size[0], ROWS)
    parts = image.new_empty(batch, count, strips, 3, dtype=torch.float32)
    with torch.cuda.device_of(image):
        _sums_kernel[(batch * count * strips,)](
            image, angle, shift, upstream, parts, channels, count, height, width, *size, *image.stride(),
            *angle.stride(), *upstream.stride(), ROWS, COLUMNS, enable_fp_fusion=False,
        )  # fmt: skip
    return parts.sum(2)


def _in_image(image: Tensor, angle: Tensor, shift: Tensor | None, upstream: Tensor) -> Float[Tensor, "B C H W"]:
    """Return the gradient in the image."""
    (batch, channels, height, width), size, count = image.shape, upstream.shape[-2:], angle.shape[1]
    gradient = torch.empty_like(image, memory_format=torch.contiguous_format)
    tiles = triton.cdiv(height, ROWS) * triton.cdiv(width, COLUMNS)
    at_once = min(triton.next_power_of_2(max(channels, 1)), MOST_CHANNELS)
    with torch.cuda.device_of(image):
        _in_image_kernel[(batch * tiles,)](
            angle, shift, upstream, gradient, channels, count, height, width, *size,
            *angle.stride(), *upstream.stride(), at_once, ROWS, COLUMNS, enable_fp_fusion=False,
        )  # fmt: skip
    return gradient


@triton.jit
@no_type_check
def _rotation(angle, shift, b, k, count, angle_b, angle_k):
    """Load cosine, sine and shift of angle k of image b."""
    radians = tl.load(angle + b * angle_b + k * angle_k)
    shift_x = 0.0
    shift_y = 0.0
    if shift is not None:
        place = shift + (b * count + k) * 2
        shift_x = tl.load(place)
        shift_y = tl.load(place + 1)
    return tl.cos(radians).to(tl.float32), tl.sin(radians).to(tl.float32), shift_x, shift_y


@triton.jit
@no_type_check
def _point(i, j, cosine, sine, shift_x, shift_y, height, width, out_height, out_width):
    """Return the pixel coordinates (x, y) in the image at which the pixel (i, j) of the result is sampled."""
    h = height.to(tl.float32)
    w = width.to(tl.float32)
    out_h = out_height.to(tl.float32)
    out_w = out_width.to(tl.float32)
    u = tl.div_rn((2 * j + 1 - out_width).to(tl.float32), out_w)
    v = tl.div_rn((2 * i + 1 - out_height).to(tl.float32), out_h)
    across = tl.div_rn(out_w, w)
    down = tl.div_rn(out_h, h)
    x = (cosine * across * u + shift_x) - (sine * tl.div_rn(h, w)) * down * v
    y = (sine * tl.div_rn(w, h)) * across * u + shift_y + cosine * down * v
    return tl.fma(x + 1, w * 0.5, -0.5), tl.fma(y + 1, h * 0.5, -0.5)


@triton.jit
@no_type_check
def _whole(x, side):
    """Convert to integers; a number outside [-2, side] and NaN become one outside [-1, side - 1]."""
    return tl.minimum(tl.maximum(x, -2.0), side.to(tl.float32)).to(tl.int32)


@triton.jit
@no_type_check
def _corners(pixels, x, y, wanted, height, width, step_h, step_w):
    """Load the four pixels around each point, in float32; pixels outside the image are 0."""
    left = _whole(tl.floor(x), width)
    top = _whole(tl.floor(y), height)
    place = pixels + top * step_h + left * step_w
    inside_l = wanted & (left >= 0) & (left < width)
    inside_r = wanted & (left >= -1) & (left < width - 1)
    inside_t = (top >= 0) & (top < height)
    inside_b = (top >= -1) & (top < height - 1)
    top_l = tl.load(place, mask=inside_t & inside_l, other=0.0)
    top_r = tl.load(place + step_w, mask=inside_t & inside_r, other=0.0)
    bottom_l = tl.load(place + step_h, mask=inside_b & inside_l, other=0.0)
    bottom_r = tl.load(place + step_h + step_w, mask=inside_b & inside_r, other=0.0)
    return top_l.to(tl.float32), top_r.to(tl.float32), bottom_l.to(tl.float32), bottom_r.to(tl.float32)


@triton.jit(do_not_specialize=SIZES + STRIDES)
@no_type_check
def _forward_kernel(
    image, angle, shift, rotated, channels, count, height, width, out_height, out_width,
    image_b, image_c, image_h, image_w, angle_b, angle_k, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute one tile of one rotated image, all channels."""
    tiles_x = tl.cdiv(out_width, COLUMNS)
    tiles = tiles_x * tl.cdiv(out_height, ROWS)
    n = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    b = n // count
    cosine, sine, shift_x, shift_y = _rotation(angle, shift, b, n % count, count, angle_b, angle_k)
    i = tile // tiles_x * ROWS + tl.arange(0, ROWS)[:, None]
    j = tile % tiles_x * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    wanted = (i < out_height) & (j < out_width)
    x, y = _point(i, j, cosine, sine, shift_x, shift_y, height, width, out_height, out_width)
    right = x - tl.floor(x)
    bottom = y - tl.floor(y)
    left = 1 - right
    top = 1 - bottom
    plane = out_height * out_width
    pixels = image + b.to(tl.int64) * image_b
    target = rotated + n.to(tl.int64) * channels * plane + i * out_width + j
    for _ in range(channels):
        top_l, top_r, bottom_l, bottom_r = _corners(pixels, x, y, wanted, height, width, image_h, image_w)
        value = top_l * (top * left) + top_r * (top * right) + bottom_l * (bottom * left) + bottom_r * (bottom * right)
        tl.store(target, value, mask=wanted)
        pixels += image_c
        target += plane


@triton.jit(do_not_specialize=SIZES + STRIDES)
@no_type_check
def _sums_kernel(
    image, angle, shift, upstream, parts, channels, count, height, width, out_height, out_width,
    image_b, image_c, image_h, image_w, angle_b, angle_k, up_b, up_k, up_c, up_h, up_w,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum the gradients in angle and shift over a strip of rows of one rotated image.

    With a pixel's offset (X, Y) from the centre of the result, the sampling point is `x = X cos a - Y sin a + ...`,
    `y = X sin a + Y cos a + ...`.
    """
    strips = tl.cdiv(out_height, ROWS)
    n = tl.program_id(0) // strips
    b = n // count
    k = n % count
    cosine, sine, shift_x, shift_y = _rotation(angle, shift, b, k, count, angle_b, angle_k)
    i = tl.program_id(0) % strips * ROWS + tl.arange(0, ROWS)[:, None]
    in_angle = tl.zeros((ROWS, COLUMNS), tl.float32)
    in_x = tl.zeros((ROWS, COLUMNS), tl.float32)
    in_y = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, out_width, COLUMNS):
        j = first + tl.arange(0, COLUMNS)[None, :]
        wanted = (i < out_height) & (j < out_width)
        x, y = _point(i, j, cosine, sine, shift_x, shift_y, height, width, out_height, out_width)
        right = x - tl.floor(x)
        bottom = y - tl.floor(y)
        along_x = tl.zeros((ROWS, COLUMNS), tl.float32)
        along_y = tl.zeros((ROWS, COLUMNS), tl.float32)
        pixels = image + b.to(tl.int64) * image_b
        source = upstream + b.to(tl.int64) * up_b + k.to(tl.int64) * up_k + i * up_h + j * up_w
        for _ in range(channels):
            top_l, top_r, bottom_l, bottom_r = _corners(pixels, x, y, wanted, height, width, image_h, image_w)
            g = tl.load(source, mask=wanted, other=0.0).to(tl.float32)
            along_x += g * ((top_r - top_l) * (1 - bottom) + (bottom_r - bottom_l) * bottom)
            along_y += g * ((bottom_l - top_l) * (1 - right) + (bottom_r - top_r) * right)
            pixels += image_c
            source += up_c
        across = j.to(tl.float32) - (out_width - 1) * 0.5
        down = i.to(tl.float32) - (out_height - 1) * 0.5
        turning = along_y * (cosine * across - sine * down) - along_x * (sine * across + cosine * down)
        in_angle += tl.where(wanted, turning, 0.0)
        in_x += tl.where(wanted, along_x, 0.0)
        in_y += tl.where(wanted, along_y, 0.0)
    target = parts + tl.program_id(0).to(tl.int64) * 3
    tl.store(target, tl.sum(tl.sum(in_angle, 1), 0))
    tl.store(target + 1, tl.sum(tl.sum(in_x, 1), 0) * (width * 0.5))
    tl.store(target + 2, tl.sum(tl.sum(in_y, 1), 0) * (height * 0.5))


@triton.jit(do_not_specialize=SIZES + STRIDES)
@no_type_check
def _in_image_kernel(
    angle, shift, upstream, gradient, channels, count, height, width, out_height, out_width,
    angle_b, angle_k, up_b, up_k, up_c, up_h, up_w,
    AT_ONCE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute the gradient in one tile of one image.

    A pixel q receives the gradient of every pixel p of the result whose sampling point is less than 1 away along both
    axes, with the weight of q in that sample. A rotation keeps distances. So p is at most sqrt(2) away from the point
    that q is rotated to, and the whole number nearest to that point, and its 8 neighbours, are all candidates. Reading
    their gradients needs no atomic additions, which adding the gradient of each p to four pixels would need.
    """
    tiles_x = tl.cdiv(width, COLUMNS)
    tiles = tiles_x * tl.cdiv(height, ROWS)
    b = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    row = tile // tiles_x * ROWS + tl.arange(0, ROWS)[:, None]
    column = tile % tiles_x * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    wanted = (row < height) & (column < width)
    plane = height * width
    for first in range(0, channels, AT_ONCE):
        c = first + tl.arange(0, AT_ONCE)[:, None, None]
        source = upstream + b.to(tl.int64) * up_b + c.to(tl.int64) * up_c
        total = tl.zeros((AT_ONCE, ROWS, COLUMNS), tl.float32)
        for k in range(count):
            cosine, sine, shift_x, shift_y = _rotation(angle, shift, b, k, count, angle_b, angle_k)
            across = column - ((shift_x + 1) * (width * 0.5) - 0.5)
            down = row - ((shift_y + 1) * (height * 0.5) - 0.5)
            near_j = _whole(tl.floor(cosine * across + sine * down + out_width * 0.5), out_width)
            near_i = _whole(tl.floor(cosine * down - sine * across + out_height * 0.5), out_height)
            for step in tl.static_range(9):
                i = near_i + (step // 3 - 1)
                j = near_j + (step % 3 - 1)
                x, y = _point(i, j, cosine, sine, shift_x, shift_y, height, width, out_height, out_width)
                weight_x = 1 - tl.abs(x - column)
                weight_y = 1 - tl.abs(y - row)
                reached = (weight_x > 0) & (weight_y > 0) & (i >= 0) & (i < out_height) & (j >= 0) & (j < out_width)
                weight = tl.where(reached, weight_x * weight_y, 0.0)
                place = source + (i * up_h + j * up_w)[None, :, :]
                g = tl.load(place, mask=(wanted & reached)[None, :, :] & (c < channels), other=0.0)
                total += g.to(tl.float32) * weight[None, :, :]
            source += up_k
        target = gradient + (b.to(tl.int64) * channels + c) * plane + (row * width + column)[None, :, :]
        tl.store(target, total, mask=wanted[None, :, :] & (c < channels))
