"""The network that says in which pose a solid is seen."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.symmetry import symmetry_of
from stnrot.models.conv_regressor import PooledConv2d

GROUPS = 4  # of the norms


class PoseNet(nn.Module):
    """Look at a picture of one solid and predict the matrix that `geometry/symmetry.py` writes its pose as.

    The picture is averaged to side x side pixels. Four convolutions, each at half the resolution of the one before,
    have group norm and ReLU; all that is left of the map goes through a small fully connected head. (With batch norm
    the axis of a torus was a seventh further off.)

    Args:
        axes: an order of `euler_to_matrix`: those that the solid is turned about.
        own_axis: of a solid of revolution; None for any other.
        side: a multiple of 16.
        width: channels of the first layer, a multiple of 4; up to 4 times as many later.
    """

    def __init__(self, axes: str, own_axis: Sequence[float] | None, side: int, width: int) -> None:
        super().__init__()
        if not isinstance(width, int) or width < GROUPS or width % GROUPS:
            raise InputError(f"model.width={width}: expected a multiple of {GROUPS}")
        if not isinstance(side, int) or side < 16 or side % 16:
            raise InputError(f"model.side={side}: expected a multiple of 16")
        self.axes, self.side = axes, side
        self.symmetry = symmetry_of(own_axis)
        layers: list[nn.Module] = []
        channels = 1
        for factor in (1, 2, 4, 4):
            conv = PooledConv2d(channels, factor * width)
            channels = factor * width
            layers += [conv, nn.GroupNorm(GROUPS, channels), nn.ReLU(inplace=True)]
        self.stack = nn.Sequential(*layers, nn.Flatten())
        left = channels * (side // 16) ** 2
        self.head = nn.Sequential(nn.Linear(left, 128), nn.ReLU(), nn.Linear(128, self.symmetry.numbers))

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 3"]:
        """Return the matrix; under autocast the head still computes in the precision of its weights."""
        small = F.adaptive_avg_pool2d(image, self.side).contiguous(memory_format=torch.channels_last)
        features = self.stack(small)
        with torch.autocast(image.device.type, enabled=False):
            return self.symmetry.matrix(self.head(features.to(self.head[0].weight.dtype)))

    def euler(self, matrix: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B axes"]:
        """Return the angles about the axes (radians) that a matrix stands for."""
        return self.symmetry.euler(at_least_float32(matrix), self.axes)

    @torch.no_grad()
    def angles(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B axes"]:
        """Return the angles about the axes (radians) that pictures show; of several that look the same, one."""
        return self.euler(self(image.to(next(self.parameters()).dtype)))
