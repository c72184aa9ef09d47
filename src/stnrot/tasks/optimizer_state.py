"""Keep the state of an optimizer free of subnormal numbers, and in the memory layout of its weights."""

import torch
from torch import Tensor
from torch.optim import Optimizer

FAINT = 1e-30  # far below the `eps` of all optimizers, so it changes no step
FAINT_EVERY = 100  # steps; in these a momentum that shrinks by 0.9 a step falls from 1e-30 to 3e-35, a normal number


@torch.no_grad()
def drop_faint(optimizer: Optimizer) -> None:
    """Set all values below 1e-30 in the state of an optimizer to zero.

    The gradient of a weight is exactly zero while its unit is dead. Its momentum then shrinks by the same factor in
    every step, down to subnormal numbers (after 700 steps of AdamW), and stays there: rounding keeps the smallest of
    them from becoming zero. Some processors compute with them a hundred times more slowly.
    """
    for state in optimizer.state.values():
        for each in state.values():
            if isinstance(each, Tensor) and each.ndim and each.dtype in (torch.float32, torch.bfloat16, torch.float64):
                each.masked_fill_(each.abs() < FAINT, 0)


def in_one_layout(weight: Tensor) -> bool:
    """Return whether a tensor like this one has the same strides: it has no gaps and no value twice."""
    return torch.empty_like(weight, device="meta").stride() == weight.stride()


def match_layouts(optimizer: Optimizer) -> None:
    """Give the state of each weight the strides of the weight, after a checkpoint was loaded.

    On a CPU torch's fused kernel reads a weight, its gradient and its state in the order of memory, whatever their
    strides are. A checkpoint may come from a model in another layout.
    """
    for weight, state in optimizer.state.items():
        for name, each in state.items():
            if isinstance(each, Tensor) and each.shape == weight.shape and each.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=each.dtype).copy_(each)
