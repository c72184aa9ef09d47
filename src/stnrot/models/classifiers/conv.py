"""The convolutional classifier, the same in every model: alone, or after a spatial transformer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import check_number
from stnrot.geometry.autograd import without_autocast
from stnrot.models.checks import check_images
from stnrot.models.conv_stack import ConvStack, HalvingMaxPool2d


class ConvClassifier(nn.Module):
    """Classify images by four 3 x 3 convolutions with batch norm and ReLU, at half and quarter resolution.

    A global pooling and one linear layer follow, so images can have any size. The pixels of each 2 x 2 square are the
    input channels, so the first layer is a 6 x 6 convolution of stride 2 whose gradient to the image is cheap. With
    width 32 there are about 240 thousand parameters.

    Args:
        channels: of an image.
        classes: number of logits.
        width: channels of the first layer; later layers have 2 and 4 times as many.

    Raises:
        InputError: if a number is less than 1, or the images do not fit.

    >>> ConvClassifier(channels=1, classes=10, width=8)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        check_number("channels", channels, 1)
        check_number("classes", classes, 1)
        check_number("width", width, 1)
        self.channels = channels

        def layer(wide_in: int, wide_out: int) -> list[nn.Module]:
            conv = nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(wide_out)]

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        self.stack = ConvStack(
            *layer(4 * channels, width),
            relu(),
            *layer(width, 2 * width),
            HalvingMaxPool2d(),
            relu(),  # of the largest values: the same as the largest of the ReLUs, on a quarter of the map
            *layer(2 * width, 4 * width),
            relu(),
            *layer(4 * width, 4 * width),
            nn.AdaptiveMaxPool2d(1),
            relu(),
            nn.Flatten(),
        )
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Return logits. Under autocast, the last layer still computes in the precision of its weights."""
        check_images("image", image, self.channels, self, self.linear.weight)
        if not image.shape[0]:  # pixel_unshuffle does nothing to an empty batch; `len` would fix it in an export
            return self.linear(self.linear.weight.new_zeros(0, self.linear.in_features))
        height, width = image.shape[-2:]
        if height % 2 or width % 2:
            image = F.pad(image, (0, width % 2, 0, height % 2))
        features = self.stack(F.pixel_unshuffle(image, 2).contiguous(memory_format=torch.channels_last))
        with without_autocast(image):
            return self.linear(features.to(self.linear.weight.dtype))
