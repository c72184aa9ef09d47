"""A point set as a picture: model -> view -> perspective -> screen -> Gaussians, differentiable all the way."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.errors import InputError, check_number
from stnrot.geometry.autograd import full_precision

SATURATIONS = ("clamp", "soft")
LOWEST = -40.0  # exponent: below it nothing is to be seen, and where exp underflows a CPU takes five times as long


@dataclass(frozen=True)
class Camera:
    """How points become a picture.

    The camera looks along +z with x to the right and y downward; the origin of the points lies before it at
    `distance`. A point (x, y, z) from the camera falls on the pixel

        column = (f x / z) side / 2 + (width - 1) / 2,   row = (f y / z) side / 2 + (height - 1) / 2,

    side being the shorter of height and width and f = 1 / tan(fov / 2). There it is a round Gaussian of height 1, and a
    pixel is the sum s of all of them, which ends at 1: by `saturation="clamp"`, min(s, 1), or by `"soft"`, 1 - exp(-s),
    whose gradient does not end where many points lie.

    Args:
        distance: of the origin, in the unit of the points.
        fov_deg: angle that the shorter side takes in.
        height: of the picture.
        width: of the picture.
        sigma: standard deviation of the Gaussian, in pixels.
        saturation: clamp or soft.
        near: points with a z below it are not drawn, in the unit of the points.
    """

    distance: float = 2.0
    fov_deg: float = 90.0
    height: int = 128
    width: int = 128
    sigma: float = 2.5
    saturation: str = "clamp"
    near: float = 0.05

    def __post_init__(self) -> None:
        check_number("camera.distance", self.distance, 0, whole=False)
        check_number("camera.fov_deg", self.fov_deg, 1, 170, whole=False)
        check_number("camera.height", self.height, 1)
        check_number("camera.width", self.width, 1)
        check_number("camera.sigma", self.sigma, 0.1, whole=False)
        check_number("camera.near", self.near, 1e-6, whole=False)
        if self.saturation not in SATURATIONS:
            raise InputError(f"camera.saturation={self.saturation!r}: expected one of {', '.join(SATURATIONS)}")

    @property
    def focal(self) -> float:
        """Return the pixels that x / z = 1 is away from the middle."""
        return min(self.height, self.width) / (2 * math.tan(math.radians(self.fov_deg) / 2))


def project(
    points: Float[Tensor, "N 3"], rotation: Float[Tensor, "*b 3 3"], camera: Camera
) -> tuple[Float[Tensor, "*b N 2"], Bool[Tensor, "*b N"]]:
    """Turn points and return the column and row where each falls, and which lie before the camera.

    Those behind the near plane are moved there before the division, so that nothing becomes infinite on the way back.
    """
    with full_precision(points):
        turned = points @ rotation.mT
    depth = turned[..., 2] + camera.distance
    seen = depth > camera.near
    depth = torch.where(seen, depth, camera.near)
    middle = torch.tensor([camera.width - 1, camera.height - 1], device=points.device, dtype=points.dtype) / 2
    return turned[..., :2] * (camera.focal / depth[..., None]) + middle, seen


def splat(
    place: Float[Tensor, "*b N 2"],
    weight: Float[Tensor, "*#b N"],
    height: int,
    width: int,
    sigma: float,
    saturation: str,
) -> Float[Tensor, "*b {height} {width}"]:
    r"""Draw a Gaussian at each place (column, row), of a height that is its weight.

    It is a product of one of the column and one of the row, so that the sum over points,

        s[row, column] = sum_n w_n exp(-(row - v_n)^2 / 2 sigma^2) exp(-(column - u_n)^2 / 2 sigma^2),

    is one product of matrices, H x N times N x W: N (H + W) exponentials instead of N H W, and as little to keep.
    `Camera` says what ends it at 1.
    """
    down = _gaussian(place[..., 1], height, sigma) * weight[..., None]
    across = _gaussian(place[..., 0], width, sigma)
    with full_precision(place):
        total = down.mT @ across
    return total.clamp(0, 1) if saturation == "clamp" else -torch.expm1(-total)


def render(
    points: Float[Tensor, "N 3"], rotation: Float[Tensor, "*b 3 3"], camera: Camera
) -> Float[Tensor, "*b {camera.height} {camera.width}"]:
    """Draw points, turned by each rotation, as the camera sees them."""
    place, seen = project(points, rotation, camera)
    return splat(place, seen.to(place.dtype), camera.height, camera.width, camera.sigma, camera.saturation)


def _gaussian(place: Float[Tensor, "*b N"], pixels: int, sigma: float) -> Float[Tensor, "*b N {pixels}"]:
    pixel = torch.arange(pixels, device=place.device, dtype=place.dtype)
    return (-0.5 * ((pixel - place[..., None]) / sigma) ** 2).clamp(min=LOWEST).exp()
