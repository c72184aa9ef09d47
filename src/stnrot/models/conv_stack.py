"""A sequence of convolutions, batch norms and activations that folds the batch norms in inference."""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry.autograd import at_least_float32
from stnrot.models.packed_norm import packed_norm

# torch has no public name for a module's hooks; a version of torch without these attributes counts as one without hooks
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class PooledConv2d(nn.Conv2d):
    """A 3 x 3 convolution followed by 2 x 2 average pooling, computed as one 4 x 4 convolution of stride 2.

    Both are linear. So the average moves into the kernel: `w4 = mean of w3 at the four shifts`. The result equals
    `Conv2d(3, padding=1)` followed by `AvgPool2d(2)`, with 16/36 of the products and without the large map.

    >>> PooledConv2d(1, 4)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 4, 14, 14])
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, bias=False)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B features H//2 W//2"]:
        """Convolve and pool."""
        return self.convolve(input, self.weight, None)

    def convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with another weight and add a bias, then pool."""
        shifts = [F.pad(weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
        kernel = torch.stack(shifts).mean(0).contiguous(memory_format=torch.channels_last)
        return F.conv2d(input, kernel, bias, stride=2, padding=1)


class HalvingMaxPool2d(nn.MaxPool2d):
    """The largest of each 2 x 2 pixels, in inference on the CPU by `torch.maximum` of every second row and column.

    torch's kernel takes four times as long for channels-last maps of 16 bits.

    >>> HalvingMaxPool2d()(torch.rand(1, 4, 5, 6)).shape
    torch.Size([1, 4, 3, 3])
    """

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Pool."""
        odd = input.shape[-2] % 2 or input.shape[-1] % 2
        if odd or input.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        pairs = torch.maximum(input[..., ::2], input[..., 1::2])
        return torch.maximum(pairs[..., ::2, :], pairs[..., 1::2, :])


class ConvStack(nn.Sequential):
    """Modules one after the other. In evaluation, a batch norm after a convolution is folded into the convolution.

    In evaluation both are linear:

        y = scale (W x + b - mean) + shift = (scale W) x + (shift + scale (b - mean)),  scale = gamma / sqrt(var + eps).

    The folded weights are computed in each call from the present ones, so they are never stale. That costs as much as
    the batch norm of a few pixels. If one of the two modules has hooks, both are called, and the hooks run. A subclass
    of `BatchNorm2d` has to compute the same as its base class in evaluation.

    >>> stack = ConvStack(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> image = torch.rand(2, 1, 8, 8)
    >>> torch.allclose(stack(image), nn.Sequential(*stack)(image), atol=1e-6)
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the modules."""
        modules = list(self)
        while modules:
            module, *modules = modules
            norm = modules[0] if modules else None
            if isinstance(norm, nn.BatchNorm2d) and _can_fold(module, norm):
                input = _folded(module, norm, input)
                modules = modules[1:]
            elif isinstance(module, nn.BatchNorm2d) and module.training and _plain(module, nn.BatchNorm2d):
                input = packed_norm(module, input)
            else:
                input = module(input)
        return input


def _can_fold(conv: nn.Module, norm: nn.BatchNorm2d) -> TypeGuard[nn.Conv2d]:
    """Return whether a convolution of torch and a batch norm by running statistics are one convolution."""
    if norm.training or norm.running_mean is None or norm.weight is None or norm.bias is None:
        return False
    known = _plain(conv, nn.Conv2d, PooledConv2d) and _plain(norm, type(norm))
    return known and conv.padding_mode == "zeros"


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, input: Tensor) -> Tensor:
    """Convolve and normalise by the running statistics, in one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (at_least_float32(norm.running_var) + norm.eps).rsqrt()
    centre = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    folded = conv.weight * scale[:, None, None, None], norm.bias - scale * centre
    weight, bias = (each.to(conv.weight.dtype) for each in folded)
    if isinstance(conv, PooledConv2d):
        return conv.convolve(input, weight, bias)
    return F.conv2d(input, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _plain(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Return whether a call of a module does what one of these classes does, and nothing else.

    A parametrised module has a class of its own, with the same `forward`. Some tools set the `forward` of one module.
    Hooks expect that the module is called; weight_norm and pruning of torch work by hooks too.
    """
    known = type(module).forward in [each.forward for each in classes] and "forward" not in module.__dict__
    return known and not any(getattr(module, name, None) for name in HOOKS)
