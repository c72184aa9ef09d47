"""Pairs of images and the angle between them, made from single images or read from a manifest."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.degrade import NUMBERS, Degrade, check_degrade
from stnrot.data.image_data import ImageData, as_float
from stnrot.data.image_set import Splits
from stnrot.data.partners import OtherInstance, Unrelated
from stnrot.data.rng import Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_choice, check_number
from stnrot.geometry import inscribed_disc, rotate_bicubic, rotation_theta, warp, wrap
from stnrot.geometry.constants import vector


@dataclass(kw_only=True, eq=False, repr=False)
class ImagePairs(ImageData):
    """Make pairs of images; the angle that rotates the image onto the reference is known.

    Both images of a pair are rotated by independent angles over the full circle. If only one were resampled, a network
    could read the angle from the traces of interpolation. Pairs of a manifest are evaluated as they are and rotated
    further in training; their angle may be unknown.

    Args:
        turn_reference: False leaves the reference upright, to show what the traces of interpolation do.
        other_instance: the reference is another image of the same class; both are upright before the rotations.
        unrelated: share of the training pairs whose reference is any other image and whose angle is random. It teaches
            an encoder to give a low confidence to images that do not match. Not for pairs of a manifest.
        degrade: further differences between the two images. Not for pairs of a manifest.
        border: what to do with the corners that a rotation blackens, as they give the angle away. `disc` blackens, in
            every image, everything that a rotation or `degrade.shift` can reach: what lies outside the inscribed disc.
            `cut` keeps the largest square that neither can reach, so that every black pixel is part of the scene: for
            images with a margin. `keep` changes nothing: for images on black.
    """

    turn_reference: bool
    other_instance: bool
    unrelated: float
    degrade: Degrade
    border: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("unrelated", self.unrelated, 0, 1, whole=False)
        check_choice("border", self.border, "disc", "cut", "keep")
        check_choice("turn_reference", self.turn_reference, True, False)
        check_choice("other_instance", self.other_instance, True, False)
        check_degrade(self.degrade)

    def setup(self, stage: str | None = None) -> None:
        """Load the splits and choose the references, once."""
        if hasattr(self, "splits"):
            return
        super().setup(stage)
        if self.other_instance:
            train, val, test = (
                OtherInstance(self.splits.part(split), (self._seed(split), split, Purpose.PARTNER)) for split in Split
            )
            self.splits = Splits(train, val, test, self.splits.classes)
        if self.unrelated:
            mixed = Unrelated(self.splits.train, self.unrelated, (self.seed, Purpose.UNRELATED))
            self.splits = replace(self.splits, train=mixed)

    def _seed(self, split: Split) -> int:
        return self.seed if split is Split.TRAIN else self.split_seed

    def spec(self) -> dict[str, Any]:
        """Return the shape of an image, after `border`, and the classes."""
        spec = super().spec()
        channels, height, width = self.splits.train.shape
        _, spec["height"], spec["width"] = self._cut(torch.empty(channels, height, width)).shape
        if not spec["height"] * spec["width"]:
            raise InputError(
                f"data.border=cut: expected images of which a square is left, got {height} x {width} pixels; lower "
                "data.degrade.shift, or use larger images or data.border=disc"
            )
        return spec

    def _cut(self, image: Tensor) -> Tensor:
        if self.border != "cut":
            return image
        height, width = image.shape[-2:]
        side = (min(height, width) - 1) / (math.sqrt(2) * (1 + 2 * self.degrade.shift))
        top, left = (math.ceil((length - side) / 2) for length in (height, width))
        return image[..., top : height - top, left : width - left]  # with the same centre

    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Rotate both images, then degrade them."""
        seed = self._seed(split)
        count = len(self.splits.part(split))

        def angles(purpose: Purpose) -> Tensor:
            return (2 * uniform((seed, split, purpose), raw.counter, 1)[:, 0] - 1) * math.pi

        image = as_float(raw.image)
        made = self.other_instance or isinstance(self.splits.part(split), Unrelated)
        given = raw.reference is not None and not made
        reference = image if raw.reference is None else as_float(raw.reference)
        numbers = uniform((seed, split, Purpose.DEGRADE), raw.counter, NUMBERS)
        height, width = image.shape[-2:]
        *_, shown_height, shown_width = self._cut(image).shape
        shares = vector((2 * shown_width / width, 2 * shown_height / height), image.device, image.dtype)
        moved = torch.zeros_like(numbers[:, :2]) if given else self.degrade.displacement(numbers) * shares
        angle = torch.zeros(len(image), device=image.device) if raw.angle is None and not given else raw.angle
        if not given or split is Split.TRAIN:
            first = angles(Purpose.ROTATION)
            second = angles(Purpose.REFERENCE_ROTATION) if self.turn_reference else torch.zeros_like(first)
            matrix = rotation_theta(first, *image.shape[-2:])[..., :2]
            image = warp(image, torch.cat((matrix, matrix @ -moved[..., None]), -1), "bicubic").clamp(0, 1)
            reference = rotate_bicubic(reference, second)
            angle = None if angle is None else wrap(angle - first + second)
        image, reference = self._cut(image), self._cut(reference)
        if not given:
            noise = None
            if self.degrade.noise:
                pixels = torch.cat((image, reference), 1)
                noise = normal((seed, split, Purpose.NOISE), raw.counter, pixels[0].numel()).view_as(pixels)
            image, reference = self.degrade(image, reference, numbers, noise)
        if self.border == "disc":
            margin = 0.0 if given else self.degrade.shift * math.hypot(*image.shape[-2:])
            inside = inscribed_disc(image.shape[-2:], image.device, margin)
            image, reference = image * inside, reference * inside
        return Batch(raw.counter % count, image, reference, angle, raw.label)
