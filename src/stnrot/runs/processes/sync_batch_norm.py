"""Batch norm over all processes, on any device."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn


class _Summed(torch.autograd.Function):
    """The sum over all processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, here: Tensor) -> Tensor:
        total = here.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def summed(here: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the sum over all processes, through which gradients flow."""
    total: Tensor = _Summed.apply(here)
    return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Normalise by the statistics of the batch of all processes in training.

    `torch.nn.SyncBatchNorm` works on accelerators only. This class works on the CPU too: a job of two processes then
    equals the job of one process, up to the rounding of sums. The processes exchange the sums of the values and of
    their squares at once, since the number of exchanges is what a job on many machines waits for.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise; the gradient flows through the statistics to every process."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        shift = self.running_mean.to(x.dtype, copy=True)  # the same everywhere, and near the mean: little cancels below
        shifted = x - shift[:, None, None]
        count = x.new_tensor([x.numel() / x.shape[1]])
        total = summed(torch.cat((shifted.sum((0, 2, 3)), (shifted**2).sum((0, 2, 3)), count)))
        first, second, count = total.split((len(shift), len(shift), 1))
        offset = first / count
        variance = (second / count - offset**2).clamp_min(0)
        mean, centred = shift + offset, shifted - offset[:, None, None]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale[:, None, None]).to(input.dtype)
        scale = self.weight * scale
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class BatchNormSync(LayerSync):
    """Trainer plugin that changes the class of every `BatchNorm2d` during training; the weights stay the same."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Change to the synchronised class."""
        return self._change_class(model, nn.BatchNorm2d, SyncedBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        """Change back to the class of torch."""
        return self._change_class(model, SyncedBatchNorm2d, nn.BatchNorm2d)

    def _change_class(self, model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> nn.Module:
        for module in model.modules():
            if type(module) is old:
                module.__class__ = new
        return model
