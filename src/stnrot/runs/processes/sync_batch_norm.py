"""Batch norm over all processes, on any device."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _SyncedBatchNorm(torch.autograd.Function):
    """Batch norm by the statistics of all processes. Also returns these: mean, biased variance, number of values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        unused = x.new_zeros(x.shape[1])  # running statistics
        mean, variance = torch.batch_norm_update_stats(x, unused, unused.clone(), 1.0)
        here = torch.cat((mean, variance, x.new_tensor([x.numel() / x.shape[1]])))
        everywhere = [torch.empty_like(here) for _ in range(dist.get_world_size())]
        dist.all_gather(everywhere, here)
        means, variances, counts = torch.stack(everywhere).split((len(mean), len(mean), 1), 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        r"""Return the gradients. With y = (x - mean) r, r = 1 / sqrt(variance + eps), g upstream, n values in all,

            dx = weight r (g - sum(g) / n - y sum(g y) / n).

        Both sums are over all processes. Those of the weight and the bias are over this one, as of every parameter.
        """
        x, weight, mean, scale, count = ctx.saved_tensors
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            upstream, x, None, None, None, mean, scale, True, 0.0, [False, True, True]
        )
        sums = torch.cat((of_weight, of_bias))
        dist.all_reduce(sums)
        slope, shift = (sums / count).chunk(2)
        factor = scale if weight is None else scale * weight
        from_x = -factor * scale * slope
        offset = -factor * shift - from_x * mean
        gradient = torch.addcmul(offset[:, None, None], x, from_x[:, None, None])
        gradient.addcmul_(upstream, factor[:, None, None])
        return gradient, None if weight is None else of_weight, None if weight is None else of_bias, None


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Normalise by the statistics of the batch of all processes in training.

    `torch.nn.SyncBatchNorm` works on accelerators only. This class works on the CPU too: a job of two processes then
    equals the job of one process, up to the rounding of sums. The processes exchange once forward and once backward,
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
        weight, bias = (None if each is None else each.to(x.dtype) for each in (self.weight, self.bias))
        output, mean, variance, count = _SyncedBatchNorm.apply(x, weight, bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return output.to(input.dtype)


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
