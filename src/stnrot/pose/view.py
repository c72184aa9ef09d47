"""The images that a descent compares: cropped, at full or reduced size, with derivatives for the angles."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.constants import constant, vector
from stnrot.geometry.euler import euler_jacobian, euler_to_matrix
from stnrot.geometry.splat import Camera, project, splat
from stnrot.geometry.tails import exp, gaussian

JOINED = 4  # pixels a side that are joined, at most; the sides of the window are multiples of it
CHUNK = 2**20  # values of a Gaussian factor at once; larger blocks go back to the operating system after each use


@dataclass(frozen=True)
class View:
    """The part of a camera's image that a solid can reach, with pixels joined in squares of `factor`, 1 to 4.

    A reduced image is 1 - exp(-s) of a sum s of Gaussians whose sigma is divided by the factor. It has a gradient
    everywhere and smooths local minima away. With a factor of 1 the view is the exact image.
    """

    points: Float[Tensor, "N 3"]
    camera: Camera
    order: str
    factor: int
    weight: float  # of each point; with every n-th point of the solid it is n

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Return the rows and columns of the camera's image, about its middle."""
        radius, distance = torch.linalg.vector_norm(self.points, dim=1).max().item(), self.camera.distance
        reach = math.inf
        if radius < distance:  # half the cone that touches the ball around the points
            reach = self.camera.focal * radius / math.sqrt(distance**2 - radius**2) + 4 * self.camera.sigma
        spans = []
        for side in (self.camera.height, self.camera.width):
            length = JOINED * min(math.ceil(2 * min(reach, side) / JOINED), side // JOINED)
            spans.append(slice((side - length) // 2, (side + length) // 2))
        return spans[0], spans[1]

    @property
    def size(self) -> tuple[int, int]:
        """Return the height and width of the view."""
        rows, columns = self.window
        return (rows.stop - rows.start) // self.factor, (columns.stop - columns.start) // self.factor

    @property
    def sigma(self) -> float:
        """Return the standard deviation of the Gaussians, in pixels of the view."""
        return self.camera.sigma / self.factor

    @property
    def saturation(self) -> str:
        """Return how the sum of Gaussians is limited to 1; see `Camera`."""
        return self.camera.saturation if self.factor == 1 else "soft"

    @property
    def chunk(self) -> int:
        """Return how many images are computed at once."""
        return max(1, CHUNK // (len(self.points) * sum(self.size)))

    def reduced(self, image: Float[Tensor, "B H W"]) -> Float[Tensor, "B P"]:
        """Crop images of the camera to the view and join their pixels."""
        rows, columns = self.window
        part = image[:, rows, columns]
        return (F.avg_pool2d(part[:, None], self.factor) if self.factor > 1 else part).flatten(1)

    def place(self, rotation: Float[Tensor, "M 3 3"]) -> tuple[Float[Tensor, "M N 2"], Float[Tensor, "M N"]]:
        """Return the column and row of each rotated point in the view, and its weight: 0 behind the near plane."""
        place, visible = project(self.points, rotation, self.camera)
        rows, columns = self.window
        corner = vector((columns.start - 0.5, rows.start - 0.5), place.device, place.dtype)
        return (place - corner) / self.factor - 0.5, self.weight * visible.to(place.dtype)

    def draw(self, rotation: Float[Tensor, "M 3 3"]) -> Float[Tensor, "M P"]:
        """Render the points, rotated by each rotation."""
        images = []
        for chunk in rotation.split(self.chunk):
            place, weight = self.place(chunk)
            images.append(splat(place, weight, *self.size, self.sigma, self.saturation).flatten(1))
        return torch.cat(images)

    def draw_with_slopes(self, angles: Float[Tensor, "M A"]) -> tuple[Float[Tensor, "M P"], Float[Tensor, "M A P"]]:
        """Return the image and its derivatives with respect to the angles.

        With E the Gaussian factors and D their derivatives with respect to the place (u, v),

            dI / dangle = sum_n (dv / dangle) D_n(row) E_n(column) + E_n(row) (du / dangle) D_n(column),

        two matrix products for each angle. The products of all angles are computed as one.
        """
        rotation, count = euler_to_matrix(angles, self.order), angles.shape[1]
        place, weight = self.place(rotation)
        rotated = self.points @ rotation.mT
        depth = (rotated[..., 2:] + self.camera.distance).clamp(min=self.camera.near)[:, None]
        moved = self.points @ euler_jacobian(angles, self.order).mT  # [M, A, N, 3]
        moved = moved[..., :2] - rotated[:, None, :, :2] * moved[..., 2:] / depth
        moved = moved * (self.camera.focal / self.factor) / depth
        across, by_column = self._factors(place[..., 0], moved[..., 0], self.size[1])
        down, by_row = self._factors(place[..., 1], weight[:, None] * moved[..., 1], self.size[0])
        down = down * weight[..., None]
        total = down.mT @ across
        slopes = (down.mT @ by_column).unflatten(2, (count, -1)).transpose(1, 2)
        slopes = slopes + (by_row.mT @ across).unflatten(1, (count, -1))
        if self.saturation == "clamp":
            image, inner = total.clamp(max=1), (total < 1).to(total.dtype)
        else:
            inner = exp(-total)
            image = 1 - inner
        return image.flatten(1), (slopes * inner[:, None]).flatten(2)

    def _factors(
        self, place: Float[Tensor, "M N"], moved: Float[Tensor, "M A N"], pixels: int
    ) -> tuple[Float[Tensor, "M N {pixels}"], Float[Tensor, "M N A*{pixels}"]]:
        """Return the Gaussians along one side, and their derivatives with respect to the angles, concatenated.

        `splat` computes the same Gaussians. Here they share their terms with the derivatives, which saves passes over
        memory.
        """
        off = _places(pixels, self.sigma, place.device, place.dtype) - (place / self.sigma)[..., None]
        height = gaussian(off)
        slope = off.mul_(height)
        return height, (slope[:, :, None] * (moved / self.sigma).mT[..., None]).flatten(2)


@constant
def _places(pixels: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{pixels}"]:
    """Return the numbers of the pixels along a side, in standard deviations."""
    return torch.arange(pixels, device=device, dtype=dtype) / sigma
