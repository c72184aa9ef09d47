"""A small convolutional regressor, a part of the CNN encoder and of the general spatial transformer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import check_number
from stnrot.models.checks import check_images

SMALLEST = 4  # pixels, which two poolings reduce to one


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
        shifts = [F.pad(self.weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
        kernel = torch.stack(shifts).mean(0).contiguous(memory_format=torch.channels_last)
        return F.conv2d(input, kernel, stride=2, padding=1)


class ConvRegressor(nn.Module):
    """Regress a few numbers from an image of at least 4 x 4 pixels.

    Convolutions to 64, 128, 128 and 1 channels, with batch norm and ELU between them, and average pooling after the
    first two. The last map is averaged to 7 x 7 and read by a small fully connected head. The weights of the last layer
    are zero at the start, so at first the result is `start` for every image. (With batch norm and ELU on the
    one-channel map as well, the angle was half as precise.)

    Args:
        channels: of an image.
        start: the numbers that are predicted before training.

    Raises:
        InputError: if channels is less than 1, or the images do not fit.
    """

    def __init__(self, channels: int, start: Sequence[float]) -> None:
        super().__init__()
        check_number("channels", channels, 1)
        self.channels = channels
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
        """Return the numbers. Under autocast, the head still computes in the precision of its weights."""
        check_images("image", image, self.channels, self, self.head[0].weight, SMALLEST)
        features = self.stack(image)
        with torch.autocast(image.device.type, enabled=False):  # bf16 has steps of 0.9 degrees near pi
            return self.head(features.to(self.head[0].weight.dtype))
