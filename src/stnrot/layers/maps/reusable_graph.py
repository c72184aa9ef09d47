"""Differentiate a value several times, by calls that each have a backward pass of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from stnrot.geometry.autograd import gradients


class _ReusableGraph(Function):
    """A formula of the weight whose own graph is kept after a backward pass."""

    @staticmethod
    def forward(ctx: Any, formula: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(weight)
        with torch.enable_grad():
            ctx.weight = weight.detach().requires_grad_()
            ctx.value = formula(ctx.weight)
        return ctx.value.detach()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        if torch.is_grad_enabled():
            return None, gradients(ctx.formula, ctx.saved_tensors, upstream)[0]
        return None, torch.autograd.grad(ctx.value, ctx.weight, upstream, retain_graph=True)[0]


def reusable_graph(formula: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return the value of the formula, which several backward passes can differentiate.

    >>> weight = torch.tensor(3.0, requires_grad=True)
    >>> square = reusable_graph(lambda w: w * w, weight)
    >>> (2 * square).backward()
    >>> (5 * square).backward()
    >>> weight.grad.item()
    42.0
    """
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and weight.requires_grad):
        return formula(weight)
    return _ReusableGraph.apply(formula, weight)
