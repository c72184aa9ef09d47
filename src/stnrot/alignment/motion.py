"""The motion of an image onto its reference: rotation, shift and scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.geometry.constants import vector


@dataclass(frozen=True)
class Motion:
    r"""Similarities: what is at the point p of the reference is at the point q of the image, both from the middle,

        q = R^T p / scale + offset,  R = [[cos a, sin a], [-sin a, cos a]],

    in pixels, x to the right and y down. R rotates counter-clockwise, as displayed.

    Attributes:
        angle: a, in radians.
        offset: (x, y) in pixels of the image.
        scale: the size of a thing in the reference, divided by its size in the image.
    """

    angle: Float[Tensor, "B K"]
    offset: Float[Tensor, "B K 2"]
    scale: Float[Tensor, "B K"]

    def linear(self, vectors: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
        """Return R^T / scale times each vector."""
        c, s = self.angle.cos() / self.scale, self.angle.sin() / self.scale
        x, y = vectors.unbind(-1)
        return torch.stack((c * x - s * y, s * x + c * y), -1)

    def enlarged(self, factor: float) -> "Motion":
        """Return the same motion between images with `factor` times as many pixels along each side."""
        return Motion(self.angle, self.offset * factor, self.scale)

    def inverse(self) -> "Motion":
        """Return the motion of the reference onto the image."""
        back = Motion(-self.angle, self.offset, 1 / self.scale)
        return Motion(back.angle, -back.linear(self.offset), back.scale)

    def after(self, first: "Motion") -> "Motion":
        """Return the motion of `self.image` onto `first.reference`, where `first.image` is `self.reference`."""
        angle = torch.atan2((self.angle + first.angle).sin(), (self.angle + first.angle).cos())
        return Motion(angle, self.linear(first.offset) + self.offset, self.scale * first.scale)

    def recentred(self, image: tuple[float, float], reference: tuple[float, float]) -> "Motion":
        """Return the same motion between images whose middles are elsewhere.

        Args:
            image: where the middle was, from the new middle: (x, y) in pixels.
            reference: likewise.
        """
        like = (self.offset.device, self.offset.dtype)
        was_image, was_reference = vector(image, *like), vector(reference, *like)
        moved = self.offset - self.linear(was_reference.expand_as(self.offset)) + was_image
        return Motion(self.angle, moved, self.scale)

    def take(self, index: Int[Tensor, "B k"] | Int[Tensor, "k"]) -> "Motion":
        """Choose motions of each image, or the same ones of all."""
        index = index.expand(len(self.angle), -1)
        offset = self.offset.gather(1, index[..., None].expand(-1, -1, 2))
        return Motion(self.angle.gather(1, index), offset, self.scale.gather(1, index))

    @staticmethod
    def cat(parts: "Sequence[Motion]", dim: int = 0) -> "Motion":
        """Join the motions of several batches (dim=0), or several motions of each image (dim=1)."""
        return Motion(*(torch.cat([getattr(each, name) for each in parts], dim) for name in Motion.__annotations__))
