"""Batch norm in training of few channels, channels last, on the CPU."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry.autograd import has_memory

FEW, MANY = 8, 64  # channels: up to FEW it is faster with MANY; from 16 on, torch is as fast


def packed_norm(norm: nn.BatchNorm2d, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Return `norm(input)` in training, and update its running statistics.

    torch normalises channels-last maps pixel by pixel. With few channels a vector register of the processor stays
    almost empty. Here `parts` neighbouring pixels of C channels count as one pixel of `parts * C` channels, in the same
    memory. Then the statistics of the parts are merged. Where this is no gain or not possible, `norm` is called.
    """
    count = input.numel() // norm.num_features
    parts = math.gcd(MANY // norm.num_features, count) if count and norm.num_features <= FEW else 1
    mean, variance = norm.running_mean, norm.running_var
    last = input.is_contiguous(memory_format=torch.channels_last) and input.device.type == "cpu"
    affine = norm.weight is not None and norm.bias is not None
    plain = type(norm) is nn.BatchNorm2d and affine and norm.momentum is not None
    real = not torch.compiler.is_compiling() and has_memory(input)
    if parts < 2 or not (last and plain and real) or mean is None or variance is None:
        return norm(input)
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    output, batch_mean, batch_variance = _PackedNorm.apply(input, norm.weight, norm.bias, parts, norm.eps)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        mean.lerp_(batch_mean, norm.momentum)
        variance.lerp_(batch_variance * (count / (count - 1)), norm.momentum)
    return output


class _PackedNorm(torch.autograd.Function):
    """Batch norm by the statistics of the batch. Also returns these: the mean and the biased variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, parts: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        packed = _packed(x, parts)
        unused = weight.new_zeros(parts * len(weight))  # running statistics, which give the dtype of the result
        part_mean, part_variance = torch.batch_norm_update_stats(packed, unused, unused.clone(), 1.0)
        mean = part_mean.view(parts, -1).mean(0)
        variance = (part_variance + (part_mean - mean.repeat(parts)) ** 2).view(parts, -1).mean(0)
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.parts, ctx.eps = parts, eps
        ctx.mark_non_differentiable(mean, variance)
        scale = weight * (variance + eps).rsqrt()
        output = _unpacked(_scaled(packed, scale.repeat(parts), (bias - scale * mean).repeat(parts)), x)
        return output.clone(), mean, variance  # a copy: autograd allows no in-place ReLU on a view

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient was asked for: torch has it
            output = F.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps)
            needed = [each for each, need in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if need]
            slopes = iter(torch.autograd.grad(output, needed, upstream, create_graph=True))
            return *(next(slopes) if need else None for need in ctx.needs_input_grad[:3]), None, None
        upstream = upstream.contiguous(memory_format=torch.channels_last)
        packed, given = _packed(x, ctx.parts), _packed(upstream, ctx.parts)
        repeated = [each.repeat(ctx.parts) for each in (weight, mean, variance)]
        _, slope, shift = torch.ops.aten.native_batch_norm_backward(
            given, packed, *repeated, None, None, False, ctx.eps, [False, True, True]
        )
        slope, shift = (each.view(ctx.parts, -1).sum(0) for each in (slope, shift))
        # dx = weight / size (g - mean of g - (x - mean) / size^2 mean of g (x - mean)): a linear map of g and one of x
        size, count = (variance + ctx.eps).sqrt(), x.numel() // len(mean)
        of_g, of_x = weight / size, -weight * slope / (count * size**2)
        from_g = _scaled(given, of_g.repeat(ctx.parts), (-of_g * shift / count).repeat(ctx.parts))
        from_x = _scaled(packed, of_x.repeat(ctx.parts), (-of_x * mean).repeat(ctx.parts))
        return _unpacked(from_g.add_(from_x), x), slope, shift, None, None


def _scaled(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return `x * factor + offset` of each channel, computed in their dtype in one pass."""
    return F.batch_norm(x, torch.zeros_like(factor), torch.ones_like(factor), factor, offset, False, 0.0, 0.0)


def _packed(x: Tensor, parts: int) -> Tensor:
    """View `parts` neighbouring pixels of channels-last maps as the channels of one."""
    pixels = x.permute(0, 2, 3, 1).reshape(1, -1, 1, parts * x.shape[1])
    return pixels.permute(0, 3, 1, 2)


def _unpacked(packed: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return packed.permute(0, 2, 3, 1).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
