"""Random deformations of pictures, in one sampling with their turn."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import check_number
from stnrot.geometry.planar import rotation_theta, sample, sampling_grid

KNOTS = 5  # of the elastic field, a side
NUMBERS = 6 + 2 * KNOTS**2  # 56 standard normal numbers deform one picture


@dataclass(frozen=True)
class Deform:
    """Turn pictures and stretch, shift and bend the turned, at random.

    The stretch is by the exponential of a symmetric normal matrix: scale and shear without any rotation, so that the
    angle of the picture stays known (its polar decomposition has the rotation 1). The elastic field is the bicubic
    interpolation of normal displacements at the knots of a square lattice, after P. Simard, D. Steinkraus, J. Platt,
    Best practices for convolutional neural networks applied to visual document analysis, 2003.

    Args:
        turn_deg: half the range of uniform turns.
        stretch: standard deviation of the logarithm of the scale along any direction.
        shift: standard deviation of the displacement along each axis, as a share of half the side.
        elastic: standard deviation of the displacement of a knot, likewise.
    """

    turn_deg: float
    stretch: float
    shift: float
    elastic: float

    def __post_init__(self) -> None:
        check_number("augment.turn_deg", self.turn_deg, 0, 180, whole=False)
        for name in ("stretch", "shift", "elastic"):
            check_number(f"augment.{name}", getattr(self, name), 0, 1, whole=False)

    def turn(self, numbers: Float[Tensor, "B 56"]) -> Float[Tensor, "B"]:
        """Return the angles (radians) that `numbers` turn by."""
        return (2 * torch.special.ndtr(numbers[:, 0]) - 1) * math.radians(self.turn_deg)

    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        angle: Float[Tensor, "B"],
        numbers: Float[Tensor, "B 56"],
        mode: str = "bilinear",
    ) -> Float[Tensor, "B C H W"]:
        """Turn the pictures by `angle + turn(numbers)` (radians), deform the turned by standard normal `numbers`.

        `sample` says what the modes do.
        """
        height, width = image.shape[-2:]
        dtype = torch.promote_types(angle.dtype, torch.float32)  # bf16 coordinates are whole pixels wrong
        angle, numbers = angle.to(dtype), numbers.to(dtype)
        with torch.autocast(image.device.type, enabled=False):
            scale, along, across = (self.stretch * math.sqrt(0.5) * numbers[:, 1:4]).unbind(1)
            size = torch.hypot(along, across)
            even, uneven = scale.exp() * size.cosh(), scale.exp() * size.sinh() / size.clamp(min=1e-6)
            off_diagonal = uneven * across
            rows = (
                even + uneven * along,
                off_diagonal * (height / width),
                off_diagonal * (width / height),
                even - uneven * along,
            )
            stretch = torch.stack(rows, -1).view(-1, 2, 2)
            turn = rotation_theta(angle + self.turn(numbers), height, width)[..., :2]
            theta = torch.cat((turn @ stretch, turn @ (self.shift * numbers[:, 4:6, None])), -1)
            knots = turn @ (self.elastic * numbers[:, 6:].view(-1, 2, KNOTS**2))
            bend = (knots @ _fields(height, width, knots)).view(-1, 2, height, width)
            grid = sampling_grid(theta, height, width) + bend.permute(0, 2, 3, 1)
        return sample(image, grid, mode)


def _fields(height: int, width: int, like: Tensor) -> Float[Tensor, "25 {height}*{width}"]:
    """Return what each knot adds to the displacement of each pixel, by bicubic interpolation.

    One product with it is much faster than to interpolate the lattice of every picture.
    """
    knot = torch.eye(KNOTS, device=like.device, dtype=like.dtype).view(KNOTS, 1, KNOTS, 1)
    # the outermost knots lie on the outermost pixels
    down, right = (F.interpolate(knot, (n, 1), mode="bicubic", align_corners=True).flatten(1) for n in (height, width))
    return torch.kron(down, right)
