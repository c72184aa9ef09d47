"""The motion of an image onto its reference: rotation, shift and scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Motion:
    """Similarities: what is at the point p of the reference is at the point q of the image, both from the middle,

        q = linear p + offset,  linear = exp(i angle) / scale,

    where a point is the complex number x + i y, in pixels, x to the right and y down. A positive angle rotates the
    image counter-clockwise, as displayed, onto the reference. The scale is the size of a thing in the reference,
    divided by its size in the image.
    """

    linear: Complex[Tensor, "B K"]
    offset: Complex[Tensor, "B K"]

    @staticmethod
    def about_middle(angle: Float[Tensor, "B K"], scale: Float[Tensor, "B K"] | float = 1.0) -> "Motion":
        """Return rotations about the common middle of image and reference."""
        linear = torch.complex(angle.cos() / scale, angle.sin() / scale)
        return Motion(linear, torch.zeros_like(linear))

    @property
    def angle(self) -> Float[Tensor, "B K"]:
        return self.linear.angle()

    @property
    def scale(self) -> Float[Tensor, "B K"]:
        return 1 / self.linear.abs()

    def inverse(self) -> "Motion":
        """Return the motion of the reference onto the image."""
        return Motion(1 / self.linear, -self.offset / self.linear)

    def after(self, first: "Motion") -> "Motion":
        """Return the motion of `self.image` onto `first.reference`, where `first.image` is `self.reference`."""
        return Motion(self.linear * first.linear, self.linear * first.offset + self.offset)

    def enlarged(self, factor: float) -> "Motion":
        """Return the same motion between images with `factor` times as many pixels along each side."""
        return Motion(self.linear, self.offset * factor)

    def recentred(self, image: complex, reference: complex) -> "Motion":
        """Return the same motion between images whose middles are elsewhere.

        Args:
            image: where the middle was, from the new middle.
            reference: likewise.
        """
        return Motion(self.linear, self.offset - self.linear * reference + image)

    def take(self, index: Int[Tensor, "B k"]) -> "Motion":
        """Choose motions of each image."""
        return Motion(self.linear.gather(1, index), self.offset.gather(1, index))

    def replaced(self, best: "Motion", where: Bool[Tensor, "B"]) -> "Motion":
        """Return these motions with another first one, for some images."""
        linear, offset = self.linear.clone(), self.offset.clone()
        linear[:, 0] = torch.where(where, best.linear[:, 0], linear[:, 0])
        offset[:, 0] = torch.where(where, best.offset[:, 0], offset[:, 0])
        return Motion(linear, offset)

    def first(self, count: int) -> "Motion":
        """Return the first motions of each image."""
        return Motion(self.linear[:, :count], self.offset[:, :count])

    @staticmethod
    def cat(parts: "Sequence[Motion]") -> "Motion":
        """Join the motions of several batches."""
        return Motion(torch.cat([each.linear for each in parts]), torch.cat([each.offset for each in parts]))
