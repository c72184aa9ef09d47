"""The classifier that stands alone or behind a transformer, the same in every model."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import check_number


class ConvClassifier(nn.Module):
    """Four 3 x 3 convolutions with batch norm and ReLU at half and quarter resolution, one linear layer.

    The pixels of each 2 x 2 square come in as channels, so the first layer is a 6 x 6 convolution of stride 2 whose
    gradient to the picture is cheap. Any input size: the last pooling is global. About 240 thousand parameters at
    width 32.

    Args:
        channels: of a picture.
        classes: how many logits.
        width: channels of the first layer; 2 and 4 times as many later.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        check_number("model.classifier.width", width, 1)

        def layer(wide_in: int, wide_out: int) -> list[nn.Module]:
            conv = nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)]

        self.stack = nn.Sequential(
            *layer(4 * channels, width),
            *layer(width, 2 * width),
            nn.MaxPool2d(2, ceil_mode=True),
            *layer(2 * width, 4 * width),
            *layer(4 * width, 4 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Return logits; under autocast the last layer still computes in the precision of its weights."""
        height, width = image.shape[-2:]
        even = F.pad(image, (0, width % 2, 0, height % 2))
        features = self.stack(F.pixel_unshuffle(even, 2).contiguous(memory_format=torch.channels_last))
        with torch.autocast(image.device.type, enabled=False):
            return self.linear(features.to(self.linear.weight.dtype))
