"""Random deformations of images, in one sampling together with a rotation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked
from stnrot.errors import check_number
from stnrot.geometry.autograd import at_least_float32, same_type, without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.planar import Mode, rotation_theta, sample, sampling_grid

KNOTS = 5  # knots of the elastic field along each side
NUMBERS = 6 + 2 * KNOTS**2  # standard normal numbers that deform one image: 56


@dataclass(frozen=True)
class Deform:
    """Rotate images, then stretch, shift and bend them at random.

    The stretch is the exponential of a symmetric matrix of normal numbers: scale and shear without a rotation (the
    rotation of its polar decomposition is the identity). So the angle of the image stays known. The elastic field is
    the bicubic interpolation of normal displacements at the knots of a square lattice. Source: P. Simard, D.
    Steinkraus, J. Platt, Best practices for convolutional neural networks applied to visual document analysis, 2003.

    Args:
        turn_deg: the random rotation is uniform from -turn_deg to turn_deg (degrees, 0 to 180).
        stretch: standard deviation of the logarithm of the scale along any direction (0 to 1).
        shift: standard deviation of the displacement along each axis, as a share of half the side (0 to 1).
        elastic: standard deviation of the displacement of a knot along each axis, as a share of half the side (0 to 1).

    Raises:
        InputError: if an argument is outside its range.

    >>> deform = Deform(turn_deg=8, stretch=0.1, shift=0.04, elastic=0.04)
    >>> deform(torch.rand(2, 1, 28, 28), torch.zeros(2), torch.randn(2, NUMBERS)).shape
    torch.Size([2, 1, 28, 28])
    """

    turn_deg: float
    stretch: float
    shift: float
    elastic: float

    count: ClassVar[int] = NUMBERS  # standard normal numbers that deform one image

    def __post_init__(self) -> None:
        check_number("turn_deg", self.turn_deg, 0, 180, whole=False)
        for name in ("stretch", "shift", "elastic"):
            check_number(name, getattr(self, name), 0, 1, whole=False)

    @checked
    def random_angle(self, numbers: Float[Tensor, "B 56"]) -> Float[Tensor, "B"]:
        """Return the angle (radians) of the random rotation that standard normal `numbers` stand for."""
        return (2 * torch.special.ndtr(at_least_float32(numbers[:, 0])) - 1) * math.radians(self.turn_deg)

    @checked
    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        angle: Float[Tensor, "B"],
        numbers: Float[Tensor, "B 56"],
        mode: Mode = "bilinear",
    ) -> Float[Tensor, "B C H W"]:
        """Rotate each image by `angle + random_angle(numbers)` (radians), then deform it.

        Args:
            image: images.
            angle: radians, counter-clockwise.
            numbers: standard normal numbers; they alone determine the deformation.
            mode: of the interpolation, see `sample`.
        """
        height, width = image.shape[-2:]
        angle, numbers = same_type(angle, numbers)  # coordinates in bf16 are wrong by whole pixels
        with without_autocast(image):
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
            rotation = rotation_theta(angle + self.random_angle(numbers), height, width)[..., :2]
            theta = torch.cat((rotation @ stretch, rotation @ (self.shift * numbers[:, 4:6, None])), -1)
            knots = rotation @ (self.elastic * numbers[:, 6:].view(-1, 2, KNOTS**2))
            bend = (knots @ _fields(height, width, knots.device, knots.dtype)).view(-1, 2, height, width)
            grid = sampling_grid(theta, height, width) + bend.permute(0, 2, 3, 1)
        return sample(image, grid, mode)


@constant
def _fields(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "25 {height}*{width}"]:
    """Return the weight of each knot in the displacement of each pixel, by bicubic interpolation.

    One matrix product with these weights is much faster than the interpolation of the lattice of every image.
    """
    knot = torch.eye(KNOTS, device=device, dtype=dtype).view(KNOTS, 1, KNOTS, 1)
    # the outermost knots lie on the outermost pixels
    down, right = (F.interpolate(knot, (n, 1), mode="bicubic", align_corners=True).flatten(1) for n in (height, width))
    return torch.kron(down, right)
