"""The small convolutional regressor under the CNN encoder and the general STN's localisation net."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PooledConv2d(nn.Conv2d):
    """A 3 x 3 convolution and the average over 2 x 2 of its output, as one 4 x 4 convolution of stride 2.

    Both are linear, so the average moves into the kernel, `w4 = mean of w3 at the four shifts`: the same
    function as `Conv2d(3, padding=1)` before `AvgPool2d(2)` at 16/36 of its products and no large map.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, bias=False)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B features H//2 W//2"]:
        """Convolve and average."""
        shifts = [F.pad(self.weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
        kernel = torch.stack(shifts).mean(0).contiguous(memory_format=torch.channels_last)
        return F.conv2d(input, kernel, stride=2, padding=1)


class ConvRegressor(nn.Module):
    """Regress a few numbers from a picture of any size, starting at given ones.

    Convolutions to 64, 128, 128 and 1 channels, batch norm and ELU between them, average pooling after
    the first two. The last map, averaged to 7 x 7, goes through a small fully connected head, whose last
    layer starts at zero weights: every picture gets `start` at first. (Batch norm and ELU on the
    one-channel map as well made the angle half as precise.)
    """

    def __init__(self, channels: int, start: Sequence[float]) -> None:
        super().__init__()
        widths = (channels, 64, 128, 128)
        layers: list[nn.Module] = []
        for i, (wide_in, wide_out) in enumerate(pairwise(widths)):
            pooled = i < 2
            conv = PooledConv2d(wide_in, wide_out) if pooled else nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(wide_out), nn.ELU(inplace=True)]
        last_map = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.stack = nn.Sequential(*layers, last_map, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        last = nn.Linear(64, len(start))
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(start))
        self.head = nn.Sequential(nn.Linear(49, 64), nn.ELU(), last)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B outputs"]:
        """Return the numbers; under autocast the head still computes in the precision of its weights."""
        features = self.stack(image)
        with torch.autocast(image.device.type, enabled=False):  # bf16 would round angles near pi to 0.9 degrees
            return self.head(features.to(self.head[0].weight.dtype))
