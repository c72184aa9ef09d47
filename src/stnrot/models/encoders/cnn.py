"""The encoder that regresses one angle: a CNN with two inputs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError, check_number
from stnrot.models.checks import check_images
from stnrot.models.conv_regressor import SMALLEST, ConvRegressor
from stnrot.models.outputs import Orientation


class CNNEncoder(nn.Module):
    """Predict one angle from image and reference, stacked as channels. Before training the angle is 0.

    Args:
        channels: of one image.
        head: `scalar` regresses the angle itself, which cannot be continuous on the circle; `vector` regresses
            (cos, sin) and returns the direction of this vector (Y. Zhou et al., On the continuity of rotation
            representations in neural networks, 2019).

    Raises:
        InputError: if head is neither of the two, or the images do not fit.

    >>> encoder = CNNEncoder(channels=1, head="vector")
    >>> encoder(torch.rand(2, 1, 28, 28), torch.rand(1, 1, 28, 28), hypotheses=1).angle.tolist()
    [[0.0], [0.0]]
    """

    def __init__(self, channels: int, head: str) -> None:
        super().__init__()
        starts = {"scalar": (0.0,), "vector": (1.0, 0.0)}
        if head not in starts:
            raise InputError(f"head: expected scalar or vector, got {head!r}")
        check_number("channels", channels, 1)
        self.channels = channels
        self.regressor = ConvRegressor(2 * channels, starts[head])

    def forward(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C H W"], hypotheses: int
    ) -> Orientation:
        """Return one hypothesis for each image. One reference serves all images, or each image has its own."""
        if hypotheses != 1:
            raise InputError(f"model.hypotheses={hypotheses}: this encoder regresses one angle, expected 1")
        weight = self.regressor.head[0].weight
        check_images("image", image, self.channels, self, weight, SMALLEST)
        check_images("reference", reference, self.channels, self, weight, SMALLEST, image.shape[0])
        if reference.shape[1:] != image.shape[1:]:
            raise InputError(f"reference: expected {list(image.shape[1:])}, as image, got {list(reference.shape[1:])}")
        out = self.regressor(torch.cat((image, reference.expand_as(image)), 1))
        angle = out if out.shape[1] == 1 else torch.atan2(out[:, 1:], out[:, :1])
        return Orientation(angle, torch.zeros_like(angle), None)
