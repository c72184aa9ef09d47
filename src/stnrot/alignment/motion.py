"""The rigid motion of an image onto its reference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.geometry.constants import vector


@dataclass(frozen=True)
class Motion:
    r"""Rigid motions: what is at the point p of the reference is at the point q of the image, both from the middle,

        q = R^T p + offset,  R = [[cos a, sin a], [-sin a, cos a]],

    in pixels, x to the right and y down. R rotates counter-clockwise, as displayed.

    Attributes:
        angle: a, in radians.
        offset: (x, y) in pixels of the image.
    """

    angle: Float[Tensor, "B K"]
    offset: Float[Tensor, "B K 2"]

    def rotated(self, offset: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
        """Return R^T times each vector."""
        c, s = self.angle.cos(), self.angle.sin()
        x, y = offset.unbind(-1)
        return torch.stack((c * x - s * y, s * x + c * y), -1)

    def scaled(self, factor: float) -> "Motion":
        """Return the same motion in pixels of another size."""
        return Motion(self.angle, self.offset * factor)

    def inverse(self) -> "Motion":
        """Return the motion of the reference onto the image."""
        back = Motion(-self.angle, -self.offset)
        return Motion(back.angle, back.rotated(back.offset))

    def recentred(self, image: tuple[float, float], reference: tuple[float, float]) -> "Motion":
        """Return the same motion between images whose middles are elsewhere.

        Args:
            image: where the middle was, from the new middle: (x, y) in pixels.
            reference: likewise.
        """
        like = (self.offset.device, self.offset.dtype)
        was_image, was_reference = vector(image, *like), vector(reference, *like)
        return Motion(self.angle, self.offset - self.rotated(was_reference.expand_as(self.offset)) + was_image)

    def take(self, index: Int[Tensor, "B k"] | Int[Tensor, "k"]) -> "Motion":
        """Choose motions of each image, or the same ones of all."""
        index = index.expand(len(self.angle), -1)
        return Motion(self.angle.gather(1, index), self.offset.gather(1, index[..., None].expand(-1, -1, 2)))
