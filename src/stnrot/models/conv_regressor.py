"""A small convolutional regressor, a part of the CNN encoder and of the general spatial transformer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import check_number
from stnrot.geometry.autograd import without_autocast
from stnrot.models.checks import check_images
from stnrot.models.conv_stack import ConvStack, PooledConv2d

SMALLEST = 4  # pixels, which two poolings reduce to one


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
        self.stack = ConvStack(*layers, last_map, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        last = nn.Linear(64, len(start))
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(start))
        self.head = nn.Sequential(
            nn.Linear(49, 64), nn.ELU(inplace=True), last
        )  # in place: its gradient does not underflow

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B outputs"]:
        """Return the numbers. Under autocast, the head still computes in the precision of its weights."""
        check_images("image", image, self.channels, self, self.head[0].weight, SMALLEST)
        features = self.stack(image)
        with without_autocast(image):  # bf16 has steps of 0.9 degrees near pi
            return self.head(features.to(self.head[0].weight.dtype))
