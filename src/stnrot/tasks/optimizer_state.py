"""Keep the state of an optimizer free of subnormal numbers."""

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
