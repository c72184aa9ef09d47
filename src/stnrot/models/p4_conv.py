"""Convolutions that commute with quarter turns."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry.autograd import at_least_float32

TURNS = 4


class P4Conv(nn.Module):
    r"""A convolution and a batch norm of the group p4: shifts and quarter turns.

    A map has a channel for each feature and quarter turn: channel `4 c + g` is what feature c is like in the direction
    `g pi / 2`. The kernel of direction g is that of direction 0, rotated by g quarter turns. Rotating the image by a
    quarter turn then rotates each map, and moves direction g to g + 1 (T. Cohen and M. Welling, Group equivariant
    convolutional networks, 2016).

    In training, each direction is normalised by its own statistics, which is as fast as a plain batch norm. In
    evaluation all four have their mean, and the norm is folded into the convolution. So the result commutes exactly.

    Args:
        channels_in: features of the input; with `first`, channels of an image.
        channels_out: features of the result.
        first: whether the input is an image, which has no directions.
        pooled: average 2 x 2 pixels, as `PooledConv2d` does in one convolution. The sides of the input are even.
        kernel: pixels along each side of the kernel.
        padding: zeros around the input on each side.

    >>> conv = P4Conv(3, 8, first=True).eval()
    >>> image = torch.rand(1, 3, 8, 8)
    >>> turned = torch.rot90(conv(image), 1, (2, 3)).unflatten(1, (8, 4)).roll(1, 2).flatten(1, 2)
    >>> torch.allclose(conv(torch.rot90(image, 1, (2, 3))), turned, atol=1e-5)
    True
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        first: bool = False,
        pooled: bool = False,
        kernel: int = 3,
        padding: int = 1,
    ) -> None:
        super().__init__()
        directions = 1 if first else TURNS
        self.directions, self.pooled, self.padding = directions, pooled, padding
        self.kernel = nn.Parameter(torch.empty(channels_out, channels_in * directions, kernel, kernel))
        nn.init.kaiming_normal_(self.kernel, nonlinearity="relu")
        self.scale, self.shift = nn.Parameter(torch.ones(channels_out)), nn.Parameter(torch.zeros(channels_out))
        self.norm = nn.BatchNorm2d(TURNS * channels_out, affine=False)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B features h w"]:
        """Convolve and normalise."""
        scale, shift = (each.repeat_interleave(TURNS) for each in (self.scale, self.shift))
        if self.training:
            maps = self._convolve(image, self._weight(), None)
            if type(self.norm) is not nn.BatchNorm2d:  # synchronised: it waits for all processes, also for one value
                return torch.addcmul(shift[:, None, None], self.norm(maps), scale[:, None, None])
            if maps[:, 0].numel() > 1:  # one value has no deviation, so it is normalised as in evaluation
                return self._normalise(maps, scale, shift)
        mean, variance = (_shared(each) for each in (self.norm.running_mean, self.norm.running_var))
        scale = scale * (at_least_float32(variance) + self.norm.eps).rsqrt()
        weight = self._weight()
        folded = (weight * scale[:, None, None, None]).to(weight.dtype)
        return self._convolve(image, folded, (shift - scale * mean).to(weight.dtype))

    def _normalise(self, maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Apply the batch norm with scale and shift in one pass, and update its running statistics."""
        norm = self.norm
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        return F.batch_norm(maps, norm.running_mean, norm.running_var, scale, shift, True, norm.momentum, norm.eps)

    def _weight(self) -> Float[Tensor, "out in k k"]:
        """Return the kernels of all directions."""
        kernel = self.kernel.unflatten(1, (-1, self.directions))
        weight = torch.stack([torch.rot90(kernel.roll(g, 2), g, (3, 4)) for g in range(TURNS)], 1)
        weight = weight.flatten(2, 3).flatten(0, 1)
        if self.pooled:
            weight = torch.stack([F.pad(weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]).mean(0)
        return weight.contiguous(memory_format=torch.channels_last)

    def _convolve(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # A kernel that covers the map is one matrix product, several times as fast. Evaluation keeps the convolution,
        # because an exported model has its convolutions in 8 bits (stnrot.export.int8).
        if self.training and self.padding == 0 and image.shape[-2:] == weight.shape[-2:]:
            return F.linear(image.flatten(1), weight.flatten(1), bias)[..., None, None]
        return F.conv2d(image, weight, bias, stride=2 if self.pooled else 1, padding=self.padding)


def _shared(statistic: Tensor | None) -> Float[Tensor, "features"]:
    """Return the mean over the directions, for each of them."""
    assert statistic is not None
    return statistic.view(-1, TURNS).mean(1).repeat_interleave(TURNS)
