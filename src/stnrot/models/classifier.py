"""The classifier that stands alone or behind a transformer, the same in every model."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvClassifier(nn.Module):
    """Five 3 x 3 convolutions with batch norm and ReLU, three max poolings, one linear layer.

    Any input size from 4 pixels: the last pooling is global. About 36 thousand parameters at width 16.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, width, 2 * width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for i, (wide_in, wide_out) in enumerate(pairwise(widths)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide_out),
                nn.ReLU(inplace=True),
            ]
            layers += [nn.MaxPool2d(2)] if i in (1, 3) else []
        self.stack = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Return logits; under autocast the last layer still computes in the precision of its weights."""
        features = self.stack(image)
        with torch.autocast(image.device.type, enabled=False):
            return self.linear(features.to(self.linear.weight.dtype))
