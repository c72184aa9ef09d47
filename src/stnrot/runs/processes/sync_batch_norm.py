"""Batch norm over all processes, on any device."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Gathered(torch.autograd.Function):
    """The vectors of all processes; the gradient of one is the sum of what all processes send to it."""

    @staticmethod
    def forward(ctx: Any, here: Tensor) -> Tensor:
        everywhere = [torch.empty_like(here) for _ in range(dist.get_world_size())]
        dist.all_gather(everywhere, here)
        return torch.stack(everywhere)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Normalise by the statistics of the batch of all processes in training.

    `torch.nn.SyncBatchNorm` works on accelerators only. This class works on the CPU too: a job of two processes then
    equals the job of one process, up to the rounding of sums. The processes exchange mean and variance at once,
    since the number of exchanges is what a job on many machines waits for.
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
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        count = x.new_tensor([x.numel() / x.shape[1]])
        everywhere: Tensor = _Gathered.apply(torch.cat((mean, variance, count)))
        means, variances, counts = everywhere.split((len(mean), len(mean), 1), 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        centred = x - mean[:, None, None]
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
