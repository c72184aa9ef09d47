"""The answer of `align`: angles, shifts and scales, a confidence, and the aligned images."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.alignment.inputs import PassedImages
from stnrot.alignment.motion import Motion
from stnrot.alignment.motion_between import motion_between
from stnrot.alignment.motion_kind import MotionKind
from stnrot.alignment.pairs import CHUNK, chunks, shrink_pair
from stnrot.alignment.posterior import MIRROR_ODDS, is_mirrored
from stnrot.geometry.autograd import same_type, without_autocast
from stnrot.geometry.correlation import correlate
from stnrot.geometry.planar import rotate, rotation_theta, warp
from stnrot.models.confidence import confidence
from stnrot.models.outputs import Orientation

POINTS = 64  # along each side of the reference, at which the overlap is measured


@dataclass(frozen=True)
class Alignment:
    """The motions of images onto their references.

    `angle` (radians) rotates the image counter-clockwise onto the reference. `confidence` is the probability that the
    error of the angle is below 5 degrees. It is calibrated over a mixture of clean, hard and unrelated pairs. With
    `motion="rotation"` and no model it is off by about 0.1 on one kind alone. With `rigid` and `similarity` it compares
    the evidence for the best motion with that for other motions, which match by chance. `orientation` holds all likely
    angles with their weights: an image with a symmetry can be aligned in several ways. `motions` holds the motion of
    each of them. `image` and `reference` are the floats that were compared.
    """

    image: Float[Tensor, "B C H W"]
    confidence: Float[Tensor, "B"]
    orientation: Orientation
    motions: Motion = field(repr=False)
    motion: MotionKind
    reference: Float[Tensor, "R C h w"] = field(repr=False)
    given: PassedImages = field(repr=False)

    @property
    def angle(self) -> Float[Tensor, "B"]:
        return self.orientation.angle[:, 0]

    @property
    def scale(self) -> Float[Tensor, "B"]:
        """The size of a thing in the reference, divided by its size in the image, both in pixels.

        If only the angle was searched, the shorter sides of image and reference show the same length.
        """
        return self.motions.scale[:, 0]

    @property
    def shift(self) -> Float[Tensor, "B 2"]:
        """Where the middle of the image lies in the reference, from its middle: (x to the right, y down) in pixels."""
        return torch.view_as_real(self.motions.inverse().offset[:, 0])

    @cached_property
    def matrix(self) -> Float[Tensor, "B 2 3"]:
        """The map of points (column, row) of the image to those of the reference, as in OpenCV's `warpAffine`.

        (0, 0) is the middle of the first pixel. `cv2.warpAffine(image, matrix, (width, height))` gives an image that
        lies on the reference. scikit-image's `warp` takes the inverse: `AffineTransform(matrix3x3).inverse`, where
        `matrix3x3` has the last row (0, 0, 1).
        """
        return self.matrices[:, 0]

    @cached_property
    def matrices(self) -> Float[Tensor, "B K 2 3"]:
        """The matrix of each hypothesis."""
        back = self.motions.inverse()
        middle, target = (
            complex((width - 1) / 2, (height - 1) / 2)
            for height, width in (self.image.shape[-2:], self.reference.shape[-2:])
        )
        columns = back.linear, back.linear * 1j, back.recentred(target, middle).offset
        return torch.view_as_real(torch.stack(columns, -1)).mT

    @cached_property
    def overlap(self) -> Float[Tensor, "B"]:
        """The share of the reference that lies inside the image."""
        (height, width), (rows, columns) = self.reference.shape[-2:], self.image.shape[-2:]
        share = (torch.arange(POINTS, device=self.angle.device, dtype=self.angle.dtype) + 0.5) / POINTS - 0.5
        motion = self.motions.first(1)
        places = motion.linear * torch.complex(share * width, (share * height)[:, None]).flatten() + motion.offset
        inside = (places.real.abs() < columns / 2) & (places.imag.abs() < rows / 2)
        return inside.to(self.angle.dtype).mean(1)

    @cached_property
    def aligned(self) -> Any:
        """The images, rotated by the angle, in the kind, dtype and range of values that were passed.

        If more than the angle was searched, they are also shifted and scaled, and have the height and width of the
        reference.

        A NumPy array gives an array, a PIL image gives a PIL image, and a list of them gives a list. A
        tensor, or a list of tensors, gives a tensor [B, C, H, W]. Paths give a tensor [B, C, H, W] of floats: the
        images as they were compared.

        Sampling is bicubic. Integers are rounded, bools are True from 1/2, and pixels from outside the image are 0. A
        PIL image keeps the modes 1, L, LA, RGB, RGBA, I, I;16 and F; all others become RGB or RGBA.
        """
        parts = self.given.parts
        counts = [len(part.planes) for part in parts]
        first = [sum(counts[:k]) for k in range(len(counts))]
        aligned = [part.restore(self.moved(part.planes, k)) for part, k in zip(parts, first, strict=True)]
        if not self.given.is_list:
            return aligned[0]
        return torch.cat(aligned) if all(isinstance(each, Tensor) for each in aligned) else aligned

    def moved(self, planes: Float[Tensor, "n C H W"], first: int = 0) -> Float[Tensor, "n C h w"]:
        """Move other images of the same size in the same way, such as masks or further channels, by bicubic sampling.

        Args:
            planes: one image for each of those that were aligned, or for `n` of them.
            first: the first of these.
        """
        some = slice(first, first + len(planes))
        angle = self.angle[some].to(planes.device)
        low, high = planes.amin((1, 2, 3), keepdim=True), planes.amax((1, 2, 3), keepdim=True)
        if self.motion == "rotation":
            moved = rotate(planes, angle, "bicubic")
        else:
            offset = torch.view_as_real(self.motions.offset[some, 0]).to(planes.device)
            scale = self.motions.scale[some, 0].to(planes.device)
            (height, width), (rows, columns) = planes.shape[-2:], self.reference.shape[-2:]
            linear = rotation_theta(angle, height, width)[..., :2] * angle.new_tensor([columns / width, rows / height])
            shift = 2 * offset / offset.new_tensor([width, height])
            theta = torch.cat((linear / scale[:, None, None], shift[..., None]), -1)
            moved = warp(planes, theta, "bicubic", size=(rows, columns))
        return moved.clamp(low.clamp(max=0), high.clamp(min=0))  # bicubic sampling overshoots

    @cached_property
    def mirrored(self) -> Bool[Tensor, "B"]:
        """Whether the mirror image of the image matches the reference better than the image (`is_mirrored`).

        If more than the angle was searched: whether the odds of its confidence are ten times as high, and it is more
        than a half.

        A mirrored pair usually has a low confidence. Pixels are compared, also with a model. The mirror image is
        correlated when `mirrored` is first read, which takes up to twice as long as an alignment without a model.
        """
        if self.motion == "rotation":
            pairs = chunks(self.image, self.reference, CHUNK)
            with torch.inference_mode():
                return torch.cat([_is_mirrored(*shrink_pair(image, reference)) for image, reference in pairs])
        flipped, reference = same_type(self.image.flip(-1), self.reference)
        with torch.inference_mode(), without_autocast(flipped):
            found = [motion_between(*pair, self.motion)[0] for pair in chunks(flipped, reference, CHUNK)]
        sure = torch.cat([confidence(each)[:, 0] for each in found])
        return (sure * (1 - self.confidence) > MIRROR_ODDS * self.confidence * (1 - sure)) & (sure > 0.5)


def _is_mirrored(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Bool[Tensor, "B"]:
    return is_mirrored(correlate(image, reference), correlate(image.flip(-1), reference))
