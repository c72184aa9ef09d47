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

from stnrot.arguments import checked

FAINT = 1 / 16  # of the machine epsilon: a Gaussian below it is zero
UNLIKELY = 2  # power of the machine epsilon: a probability below it has no gradient


@checked
def gaussian(off: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return exp(-off^2 / 2), or 0 where it is below a sixteenth of the machine epsilon. It is differentiable.

    >>> gaussian(torch.tensor([0.0, 1.0, 7.0])).tolist()
    [1.0, 0.6065306663513184, 0.0]
    """
    least = FAINT * torch.finfo(off.dtype).eps
    # exp of a clamped number, because exp takes several times as long where it underflows
    return F.threshold((-0.5 * off.square()).clamp(min=math.log(least) - 1).exp(), least, 0.0)


def log_softmax(x: Float[Tensor, "*n"], dim: int) -> Float[Tensor, "*n"]:
    """Return `x.log_softmax(dim)`. An unlikely entry passes on no gradient of the probabilities of the others."""
    return _LogSoftmax.apply(x, dim)


def logsumexp(x: Float[Tensor, "*n"], dim: int | tuple[int, ...]) -> Float[Tensor, "*m"]:
    """Return `x.logsumexp(dim)`. The gradient of an entry that contributes almost nothing is zero."""
    total = _LogSumExp.apply(x, dim)
    return total.squeeze(dim)


def _exp(log_share: Tensor) -> Tensor:
    """Return the exponential, or 0 where it is below the square of the machine epsilon."""
    least = torch.finfo(log_share.dtype).eps ** UNLIKELY
    return F.threshold(log_share.clamp(min=math.log(least) - 1).exp(), least, 0.0)


class _LogSoftmax(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return x.log_softmax(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.dim = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (log_share,) = ctx.saved_tensors
        return g - _exp(log_share) * g.sum(ctx.dim, keepdim=True), None


class _LogSumExp(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
        return x.logsumexp(dim, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, total = ctx.saved_tensors
        return g * _exp(x - total.masked_fill(total.isinf(), 0)), None
