"""Random deformations of training pictures, resampled once, together with their turn."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.data.draws import Key, Purpose, normal, uniform
from stnrot.geometry import rotation_theta, sample, sampling_grid

KNOTS = 5  # of the elastic field, a side


class Deform:
    """Stretch, shift and bend each picture at random; as a person's hand, not as a turn, would change it.

    The stretch is by a symmetric matrix, `exp` of a symmetric normal one: scale and shear without any
    rotation, so that the angle of the picture stays known (its polar decomposition has the rotation 1).
    The elastic field is the bicubic interpolation of normal displacements at 5 x 5 knots, after P. Simard,
    D. Steinkraus, J. Platt, Best practices for convolutional neural networks, 2003.

    Args:
        turn_deg: also turn by an angle drawn uniformly within +- this, for pictures that are stored turned.
        stretch: standard deviation of the logarithm of the scale along any direction.
        shift: standard deviation of the displacement in each direction, as a share of half the side.
        elastic: standard deviation of the displacement at a knot, likewise.
    """

    def __init__(self, *, turn_deg: float, stretch: float, shift: float, elastic: float) -> None:
        self.turn, self.stretch, self.shift, self.elastic = math.radians(turn_deg), stretch, shift, elastic

    def turns(self, key: Key, draw: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return the angles (radians) by which the pictures of these draws are turned further."""
        return (2 * uniform((*key, Purpose.AUGMENT_TURN), draw, 1)[:, 0] - 1) * self.turn

    def __call__(
        self, image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B"], key: Key, draw: Int[Tensor, "B"]
    ) -> Float[Tensor, "B C H W"]:
        """Deform the pictures and turn them by `angle` (radians), sampling them once."""
        height, width = image.shape[-2:]
        numbers = normal((*key, Purpose.DEFORM), draw, 5 + 2 * KNOTS**2)
        scale, along, across = (self.stretch * math.sqrt(0.5) * numbers[:, :3]).unbind(1)
        size = torch.hypot(along, across)
        uneven = size.sinh() / size.clamp(min=1e-6)
        even, along, across = (scale.exp() * part for part in (size.cosh(), uneven * along, uneven * across))
        stretch = torch.stack((even + along, across, across, even - along), -1).view(-1, 2, 2)
        aspect = torch.tensor([[1.0, height / width], [width / height, 1.0]], device=image.device)
        theta = rotation_theta(angle, height, width)
        theta = torch.cat((theta[..., :2] @ (stretch * aspect), self.shift * numbers[:, 3:5, None]), -1)
        knots = self.elastic * numbers[:, 5:].view(-1, 2, KNOTS, KNOTS)
        bend = F.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)
        return sample(image, sampling_grid(theta, height, width) + bend.permute(0, 2, 3, 1))
