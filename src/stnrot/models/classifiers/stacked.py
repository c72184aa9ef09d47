"""What the classifiers share that read the pixels of each 2 x 2 square as channels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry.autograd import without_autocast
from stnrot.models.checks import check_images
from stnrot.models.conv_stack import ConvStack


class StackedClassifier(nn.Module):
    """Classify images by a stack of modules and a linear layer. Images can have any size.

    The stack reads maps of half resolution, whose channels are the pixels of each 2 x 2 square. So a first 3 x 3
    convolution is one of 6 x 6 pixels and stride 2, whose gradient to the image is cheap.

    Args:
        channels: of an image.
        classes: number of logits.
        stack: maps `[B, 4 channels, H / 2, W / 2]` to `[B, features]`.
        features: that the stack returns.
    """

    def __init__(self, channels: int, classes: int, stack: ConvStack, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.stack = stack
        self.linear = nn.Linear(features, classes)

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
