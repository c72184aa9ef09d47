"""The convolutional classifier, the same in every model: alone, or after a spatial transformer."""

from torch import nn

from stnrot.errors import check_number
from stnrot.models.classifiers.stacked import StackedClassifier
from stnrot.models.conv_stack import ConvStack, HalvingMaxPool2d


class ConvClassifier(StackedClassifier):
    """Classify images by four 3 x 3 convolutions with batch norm and ReLU, at half and quarter resolution.

    A global pooling and one linear layer follow. With width 32 there are about 240 thousand parameters.

    Args:
        channels: of an image.
        classes: number of logits.
        width: channels of the first layer; later layers have 2 and 4 times as many.

    Raises:
        InputError: if a number is less than 1, or the images do not fit.

    >>> import torch
    >>> ConvClassifier(channels=1, classes=10, width=8)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        check_number("channels", channels, 1)
        check_number("classes", classes, 1)
        check_number("width", width, 1)

        def layer(wide_in: int, wide_out: int) -> list[nn.Module]:
            conv = nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(wide_out)]

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        stack = ConvStack(
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
        super().__init__(channels, classes, stack, 4 * width)
