"""Exponentials whose tails are exactly zero where they no longer count.

A tail that decays to the smallest numbers ends in subnormal numbers, below 1.2e-38 in float32. They change no sum by
more than rounding does. But some processors compute with them a hundred times more slowly, also in every product.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function


def gaussian(off: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return exp(-off^2 / 2), or 0 where it is below a sixteenth of the machine epsilon. It is differentiable.

    >>> gaussian(torch.tensor([0.0, 1.0, 7.0])).tolist()
    [1.0, 0.6065306663513184, 0.0]
    """
    least, exponent = _epsilon(off) / 16, off.square()
    if exponent.requires_grad:
        return _exp(-0.5 * exponent, least)
    return F.threshold(exponent.mul_(-0.5).clamp_(min=math.log(least) - 1).exp_(), least, 0.0, inplace=True)


def exp(log_share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the exponential of numbers up to 0, or 0 where it is below 4e-11 (in float32).

    >>> exp(torch.tensor([0.0, -1.0, -24.0])).tolist()
    [1.0, 0.3678794503211975, 0.0]
    """
    return _exp(log_share, _epsilon(log_share) ** 1.5)


def log_softmax(x: Float[Tensor, "*n"], dim: int) -> Float[Tensor, "*n"]:
    """Return `x.log_softmax(dim)`. In its gradient, probabilities below 4e-11 (in float32) are zero.

    A compiled graph has the gradient of torch: `torch.compile` accepts no `Function` with forward derivatives.
    """
    return _LogSoftmax.apply(x, dim) if _takes_own_gradient(x) else x.log_softmax(dim)


def logsumexp(x: Float[Tensor, "*n"], dim: int | tuple[int, ...]) -> Float[Tensor, "*m"]:
    """Return `x.logsumexp(dim)`. In its gradient, shares below 4e-11 (in float32) are zero; see `log_softmax`."""
    return _LogSumExp.apply(x, dim).squeeze(dim) if _takes_own_gradient(x) else x.logsumexp(dim)


def _takes_own_gradient(x: Tensor) -> bool:
    return x.requires_grad and not torch.compiler.is_compiling()


def _epsilon(x: Tensor) -> float:
    """Return the machine epsilon of the type, of float32 for 16 bits: such numbers are summed in float32."""
    return min(torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps)


def _exp(x: Tensor, least: float) -> Tensor:
    # of a clamped number, because exp takes several times as long where it underflows
    return F.threshold(x.clamp(min=math.log(least) - 1).exp(), least, 0.0)


class _LogSoftmax(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return x.log_softmax(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)
        ctx.dim = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (log_share,) = ctx.saved_tensors
        return g - exp(log_share) * g.sum(ctx.dim, keepdim=True), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (log_share,) = ctx.saved_tensors
        return tangent - (exp(log_share) * tangent).sum(ctx.dim, keepdim=True)


class _LogSumExp(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
        return x.logsumexp(dim, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)
        ctx.dim = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * _shares(*ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return (tangent * _shares(*ctx.saved_tensors)).sum(ctx.dim, keepdim=True)


def _shares(x: Tensor, total: Tensor) -> Tensor:
    return exp(x - total.masked_fill(total == -math.inf, 0))
