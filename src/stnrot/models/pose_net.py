"""The network that predicts the pose of a solid from an image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, without_autocast
from stnrot.geometry.symmetry import symmetry_of
from stnrot.models.checks import check_images
from stnrot.models.conv_stack import PooledConv2d

GROUPS = 4  # of the group norms


class PoseNet(nn.Module):
    """Predict the matrix that represents the pose of a solid (`stnrot.geometry.symmetry`) from an image.

    The image is averaged to side x side pixels. Four convolutions with group norm and ReLU follow; each has half the
    resolution of the one before. A small fully connected head reads the last map. (With batch norm, the error of the
    axis of a torus was a seventh larger.)

    Args:
        axes: the axes that the solid rotates about, an order of `euler_to_matrix` such as `XYZ`.
        own_axis: axis of a solid of revolution, before it is rotated; None for any other solid.
        side: pixels, a multiple of 16.
        width: channels of the first layer, a multiple of 4; later layers have up to 4 times as many.

    Raises:
        InputError: if side or width is not valid, or the images do not fit.

    >>> PoseNet("XYZ", None, side=16, width=4).angles(torch.rand(2, 1, 40, 40)).shape
    torch.Size([2, 3])
    """

    def __init__(self, axes: str, own_axis: Sequence[float] | None, side: int, width: int) -> None:
        super().__init__()
        if not isinstance(width, int) or width < GROUPS or width % GROUPS:
            raise InputError(f"width={width}: expected a multiple of {GROUPS}")
        if not isinstance(side, int) or side < 16 or side % 16:
            raise InputError(f"side={side}: expected a multiple of 16")
        self.axes, self.side = axes, side
        self.symmetry = symmetry_of(own_axis)
        layers: list[nn.Module] = []
        channels = 1
        for factor in (1, 2, 4, 4):
            conv = PooledConv2d(channels, factor * width)
            channels = factor * width
            layers += [conv, nn.GroupNorm(GROUPS, channels), nn.ReLU(inplace=True)]
        self.stack = nn.Sequential(*layers, nn.Flatten())
        flat = channels * (side // 16) ** 2
        self.head = nn.Sequential(nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, self.symmetry.numbers))

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 3"]:
        """Return the matrix. Under autocast, the head still computes in the precision of its weights."""
        check_images("image", image, 1, self, self.head[0].weight)
        small = F.adaptive_avg_pool2d(image, self.side).contiguous(memory_format=torch.channels_last)
        features = self.stack(small)
        with without_autocast(image):
            return self.symmetry.matrix(self.head(features.to(self.head[0].weight.dtype)))

    def euler(self, matrix: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B axes"]:
        """Return the angles (radians) about the axes of the pose that a matrix represents."""
        return self.symmetry.euler(at_least_float32(matrix), self.axes)

    @torch.no_grad()
    def angles(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B axes"]:
        """Return the angles (radians) about the axes for each image. If several poses look the same, return one."""
        return self.euler(self(image.to(next(self.parameters()).dtype)))
