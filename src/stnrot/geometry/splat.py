"""Render a point set as an image: model -> view -> perspective -> screen -> Gaussians. All steps are differentiable."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.arguments import Count, Positive, checked
from stnrot.errors import InputError, check_number
from stnrot.geometry.autograd import full_precision, same_type
from stnrot.geometry.constants import counting, vector
from stnrot.geometry.tails import gaussian

SATURATIONS = ("clamp", "soft")


@dataclass(frozen=True)
class Camera:
    """The camera that renders points as an image.

    The camera looks along +z, with x to the right and y downward. The origin of the points lies in front of it at
    `distance`. A point (x, y, z) in camera coordinates is projected to the pixel

        column = (f x / z) side / 2 + (width - 1) / 2,   row = (f y / z) side / 2 + (height - 1) / 2,

    where side is the shorter of height and width, and f = 1 / tan(fov / 2). The point is drawn there as a round
    Gaussian of height 1. A pixel is the sum s of all Gaussians, limited to 1: `saturation="clamp"` gives min(s, 1), and
    `saturation="soft"` gives 1 - exp(-s), whose gradient does not vanish where many points overlap.

    Args:
        distance: from the camera to the origin, in the unit of the points; at least 0.
        fov_deg: field of view along the shorter side, in degrees; 1 to 170.
        height: of the image, in pixels.
        width: of the image, in pixels.
        sigma: standard deviation of the Gaussian, in pixels; at least 0.1.
        saturation: `clamp` or `soft`.
        near: distance of the near plane, in the unit of the points; points nearer to the camera are not drawn.

    Raises:
        InputError: if an argument is outside its range.
    """

    distance: float = 2.0
    fov_deg: float = 90.0
    height: int = 128
    width: int = 128
    sigma: float = 2.5
    saturation: str = "clamp"
    near: float = 0.05

    def __post_init__(self) -> None:
        check_number("distance", self.distance, 0, whole=False)
        check_number("fov_deg", self.fov_deg, 1, 170, whole=False)
        check_number("height", self.height, 1)
        check_number("width", self.width, 1)
        check_number("sigma", self.sigma, 0.1, whole=False)
        check_number("near", self.near, 1e-6, whole=False)
        _check_saturation(self.saturation)

    @property
    def focal(self) -> float:
        """Return the focal length f * side / 2, in pixels."""
        return min(self.height, self.width) / (2 * math.tan(math.radians(self.fov_deg) / 2))


@checked
def project(
    points: Float[Tensor, "N 3"], rotation: Float[Tensor, "*b 3 3"], camera: Camera
) -> tuple[Float[Tensor, "*b N 2"], Bool[Tensor, "*b N"]]:
    """Rotate points and project them. The computation and the result are at least in float32.

    Points behind the near plane are moved onto it before the division, so that no gradient becomes infinite.

    Returns:
        The pixel (column, row) of each point, and whether it lies in front of the near plane.
    """
    points, rotation = same_type(points, rotation)
    with full_precision(points):
        rotated = points @ rotation.mT
    depth = rotated[..., 2] + camera.distance
    in_front = depth > camera.near
    depth = torch.where(in_front, depth, camera.near)
    middle = vector(((camera.width - 1) / 2, (camera.height - 1) / 2), points.device, points.dtype)
    return rotated[..., :2] * (camera.focal / depth[..., None]) + middle, in_front


@checked
def splat(
    position: Float[Tensor, "*#b N 2"],
    weight: Float[Tensor, "*#b N"],
    height: Count,
    width: Count,
    sigma: Positive,
    saturation: str,
) -> Float[Tensor, "*#b {height} {width}"]:
    r"""Draw a Gaussian at each position (column, row). Its height is the weight.

    A Gaussian is a product of a factor of the column and a factor of the row. So the sum over the points,

        s[row, column] = sum_n w_n exp(-(row - v_n)^2 / 2 sigma^2) exp(-(column - u_n)^2 / 2 sigma^2),

    is one matrix product, H x N times N x W. It needs N (H + W) exponentials and as much memory, instead of N H W.
    For `saturation` see `Camera`. The computation and the result are at least in float32.
    """
    _check_saturation(saturation)
    position, weight = same_type(position, weight)
    rows = _gaussian(position[..., 1], height, sigma) * weight[..., None]
    columns = _gaussian(position[..., 0], width, sigma)
    with full_precision(position):
        total = rows.mT @ columns
    return total.clamp(0, 1) if saturation == "clamp" else -torch.expm1(-total)


@checked
def render(
    points: Float[Tensor, "N 3"], rotation: Float[Tensor, "*b 3 3"], camera: Camera
) -> Float[Tensor, "*b {camera.height} {camera.width}"]:
    """Render points, rotated by each rotation, with the camera. The computation and the result are at least in float32.

    >>> points = torch.tensor([[0.0, 0.0, 0.0]])
    >>> image = render(points, torch.eye(3), Camera(height=9, width=9, sigma=1.0))
    >>> image.shape, image[4, 4].item()
    (torch.Size([9, 9]), 1.0)
    """
    position, in_front = project(points, rotation, camera)
    return splat(position, in_front.to(position.dtype), camera.height, camera.width, camera.sigma, camera.saturation)


def _check_saturation(saturation: str) -> None:
    if saturation not in SATURATIONS:
        raise InputError(f"saturation={saturation!r}: expected one of {', '.join(SATURATIONS)}")


def _gaussian(position: Float[Tensor, "*b N"], pixels: int, sigma: float) -> Float[Tensor, "*b N {pixels}"]:
    return gaussian((counting(pixels, position.device, position.dtype) - position[..., None]) / sigma)
