"""What gradients written by hand share."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switch autocast off, if it is on."""
    device = "cpu" if x.is_cpu else x.device.type  # whose name takes a few microseconds to come
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """Return numbers of 16 bits in 32."""
    return x if x.dtype.itemsize >= 4 else x.float()


def gradients(formula: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor | None]:
    """Return the gradients of a formula as functions of its inputs, for a gradient of them.

    Of views of the inputs, so that they end there: one input may depend on another.
    """
    with torch.enable_grad(), full_precision(upstream):
        inputs = [x.view_as(x) if x.requires_grad else x for x in inputs]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(formula(*inputs), wanted, upstream, create_graph=True))
    return [next(found) if x.requires_grad else None for x in inputs]
