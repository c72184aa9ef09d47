"""Labelled images, each rotated by a random angle. The angle that rotates an image back is known."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.image_data import ImageData, as_float
from stnrot.data.rng import Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_choice, check_number
from stnrot.geometry import Deform, RandomViews, inscribed_disc, rotate_bicubic, wrap


@dataclass(kw_only=True, eq=False, repr=False)
class RotatedImages(ImageData):
    """Rotate upright images by angles that are uniform in [-max_angle_deg, max_angle_deg].

    Images that are stored rotated by unknown angles (`Splits.turned`) are rotated once more in training with
    `train_turns=every_epoch`, and else not at all. Their batches have no angle.

    Args:
        max_angle_deg: largest angle; 180 is the full circle.
        train_turns: `every_epoch` rotates a training image by a new angle each time that it is shown; `once` gives each
            image one angle for the whole run, as if the images had been stored rotated; `never` leaves them upright.
        border: what to do with the corners that a rotation blackens, as they give the angle away. `disc` blackens
            everything outside the inscribed disc; `keep` changes nothing, for images on black.
        augment: changes the training images. With `train_turns=once` it resamples the rotated image, else its sampling
            and the rotation are one.
    """

    max_angle_deg: float
    train_turns: str
    border: str
    augment: Deform | RandomViews | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("train_turns", self.train_turns, "every_epoch", "once", "never")
        check_choice("border", self.border, "disc", "keep")
        if not (self.augment is None or callable(self.augment)):
            raise InputError(
                f"augment={self.augment}: expected null, or a choice with a slash: data/augment=deform or random_views"
            )
        if self.train_turns == "once" and isinstance(self.augment, RandomViews) and self.augment.mirror:
            raise InputError(
                f"augment.mirror={self.augment.mirror}: expected 0, because images that are stored rotated "
                "(train_turns=once) are not upright"
            )
        check_number("max_angle_deg", self.max_angle_deg, 0, 180, whole=False)
        self.max_angle = math.radians(self.max_angle_deg)

    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Rotate each image. The batch has no reference: a model holds its own."""
        index = raw.counter % len(self.splits.part(split))
        rotation = self.rotation_of(raw.counter, split)
        image = as_float(raw.image)
        if split is Split.TRAIN and self.augment is not None:
            numbers = normal((self.seed, split, Purpose.DEFORM), raw.counter, self.augment.count)
            stored = self.train_turns == "once"
            image = rotate_bicubic(image, rotation) if stored else image
            image = self.augment(image, 0 * rotation if stored else rotation, numbers, "bicubic").clamp(0, 1)
            rotation = rotation + self.augment.random_angle(numbers)
        else:
            image = rotate_bicubic(image, rotation)
        image = self.hide_corners(image)
        angle = None if self.splits.turned else wrap(-rotation)
        return Batch(index=index, image=image, reference=None, angle=angle, label=raw.label)

    def rotation_of(self, counter: Int[Tensor, "B"], split: Split) -> Float[Tensor, "B"]:
        """Return the angle (radians) by which each image is rotated, without that of `augment`."""
        training = split is Split.TRAIN
        fresh = training and self.train_turns == "every_epoch"
        key = (self.seed if fresh else self.split_seed, split, Purpose.ROTATION)
        place = counter if fresh else counter % len(self.splits.part(split))
        rotation = (2 * uniform(key, place, 1)[:, 0] - 1) * self.max_angle
        upright = training and self.train_turns == "never"
        return torch.zeros_like(rotation) if upright or (self.splits.turned and not fresh) else rotation

    def hide_corners(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Blacken everything outside the inscribed disc, if `border` says so."""
        return image * inscribed_disc(image.shape[-2:], image.device) if self.border == "disc" else image
