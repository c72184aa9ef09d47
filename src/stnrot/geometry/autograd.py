"""Tools for functions whose gradients are written by hand: precision, and gradients of gradients."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _is_tracing  # a look-up in `torch` takes as long as the call
from torch.compiler import is_compiling
from torch.nn import Parameter

PLAIN = (Tensor, Parameter)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context that switches autocast off on the device of x, if it is on."""
    device = "cpu" if x.is_cpu else x.device.type  # `is_cpu` first: `device.type` takes a few microseconds
    if device == "meta":  # it has no autocast
        return nullcontext()
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context that switches autocast off on the device of x; an exported graph contains the switch."""
    if not is_compiling():
        return full_precision(x)
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def has_memory(x: Tensor) -> bool:
    """Return whether a kernel can read the numbers of x. Fake tensors, and those of `torch.func`, have no memory."""
    if type(x) not in PLAIN:
        return False
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


def is_traced(x: Tensor) -> bool:
    """Return whether x is in a graph that is compiled or traced, under a transformation of `torch.func`, or fake.

    Then no value can be read, and no gradient written by hand is used. Operations of torch compute the same.
    """
    return type(x) not in PLAIN or is_compiling() or _are_functorch_transforms_active() or _is_tracing()


def at_least_float32(x: Tensor) -> Tensor:
    """Convert 16-bit floats to float32; return wider ones unchanged."""
    return x if x.dtype.itemsize >= 4 else x.float()


def same_type(*tensors: Tensor) -> list[Tensor]:
    """Convert tensors to their common type, or to float32 if all have fewer bits."""
    dtype = torch.float32
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in tensors]


def without_nan(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Replace each matrix that has an infinite or NaN entry by zeros, because LAPACK raises an error for it.

    Returns:
        The matrices, and a number for each, to be added to the result: NaN if it was replaced, else 0.
    """
    poison = (matrix * 0).sum((-2, -1), keepdim=True)
    return torch.where(poison.isnan(), 0, matrix), poison


def gradients(formula: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor | None]:
    """Return the gradients of a formula with a graph of their own, so that they can be differentiated again.

    The gradients are taken with respect to views of the inputs. So they stop at each input, even if one input depends
    on another.

    Args:
        formula: function of the inputs.
        inputs: tensors; None is returned for an input without a gradient.
        upstream: gradient of the loss with respect to the result of the formula.
    """
    with torch.enable_grad(), full_precision(upstream):
        inputs = [x.view_as(x) if x.requires_grad else x for x in inputs]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(formula(*inputs), wanted, upstream, create_graph=True))
    return [next(found) if x.requires_grad else None for x in inputs]
