"""A deeper classifier, of residual blocks."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import check_number
from stnrot.models.classifiers.stacked import StackedClassifier
from stnrot.models.conv_stack import ConvStack, HalvingMaxPool2d


class ResidualClassifier(StackedClassifier):
    """Classify images by two 3 x 3 convolutions and three residual blocks, at half and quarter resolution.

    A global pooling, dropout and one linear layer follow. With width 64 there are about 740 thousand parameters, and a
    step takes longer than that of `ConvClassifier` of width 32.

    Source of the blocks: K. He et al., Deep residual learning for image recognition, 2016. The last batch norm of each
    starts at 0, as in P. Goyal et al., Accurate, large minibatch SGD, 2017.

    Args:
        channels: of an image.
        classes: number of logits.
        width: channels at half resolution; there are twice as many at quarter resolution.
        dropout: probability of leaving out one of the features before the linear layer in training, 0 to 0.99.

    Raises:
        InputError: if an argument is outside its range, or the images do not fit.

    >>> import torch
    >>> ResidualClassifier(channels=1, classes=10, width=8, dropout=0.3)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, classes: int, width: int, dropout: float) -> None:
        check_number("channels", channels, 1)
        check_number("classes", classes, 1)
        check_number("width", width, 1)
        check_number("dropout", dropout, 0, 0.99, whole=False)
        stack = ConvStack(
            *_layer(4 * channels, width),
            nn.ReLU(inplace=True),
            _Residual(width),
            HalvingMaxPool2d(),
            *_layer(width, 2 * width),
            nn.ReLU(inplace=True),
            _Residual(2 * width),
            _Residual(2 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        super().__init__(channels, classes, stack, 2 * width)


class _Residual(nn.Module):
    """relu(x + f(x)), f being two convolutions with batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.stack = ConvStack(*_layer(width, width), nn.ReLU(inplace=True), conv, last)

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add, and take what is positive."""
        return F.relu(maps + self.stack(maps))


def _layer(wide_in: int, wide_out: int) -> list[nn.Module]:
    return [nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False), nn.BatchNorm2d(wide_out)]
