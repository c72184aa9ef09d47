"""Labelled pictures, each turned by a random angle: the angle that undoes the turn is known."""

import math
from typing import Any

import torch

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.image_data import ImageData, as_float
from stnrot.data.rng import Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_number
from stnrot.geometry import Deform, inscribed_disc, rotate_bicubic, wrap
from stnrot.geometry.deform import NUMBERS


class RotatedImages(ImageData):
    """Turn upright pictures by angles drawn uniformly from +-max_angle_deg.

    Args:
        max_angle_deg: half the range of the turns; 180 is the full circle.
        train_turns: `every_epoch` draws a new turn each time that a training picture is shown, `once`
            gives each one turn for good, as if the set had been stored turned, `never` leaves them upright.
        border: what becomes of the corners that a turn blackens, and that would give the angle away: `disc` blacks out
            all that lies outside the inscribed disc, `keep` leaves them: for pictures on black.
        augment: deforms the training pictures; in one sampling with their turn where that is fresh, as
            a second one where they are as if stored turned.
        options: those of `ImageData`.
    """

    def __init__(
        self, *, max_angle_deg: float, train_turns: str, border: str, augment: Deform | None, **options: Any
    ) -> None:
        super().__init__(**options)
        if train_turns not in ("every_epoch", "once", "never"):
            raise InputError(f"data.train_turns: expected every_epoch, once or never, got {train_turns!r}")
        if border not in ("disc", "keep"):
            raise InputError(f"data.border: expected disc or keep, got {border!r}")
        check_number("data.max_angle_deg", max_angle_deg, 0, 180, whole=False)
        self.max_angle = math.radians(max_angle_deg)
        self.train_turns, self.border, self.augment = train_turns, border, augment

    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Turn each picture; the reference is for the model to hold."""
        index = raw.draw % len(self.splits.part(split))
        training = split is Split.TRAIN
        fresh = training and self.train_turns == "every_epoch"
        key = (self.seed if fresh else self.split_seed, split, Purpose.TURN)
        turn = (2 * uniform(key, raw.draw if fresh else index, 1)[:, 0] - 1) * self.max_angle
        if training and self.train_turns == "never":
            turn = torch.zeros_like(turn)
        image = as_float(raw.image)
        if training and self.augment is not None:
            numbers = normal((self.seed, split, Purpose.DEFORM), raw.draw, NUMBERS)
            stored = self.train_turns == "once"
            image = rotate_bicubic(image, turn) if stored else image
            image = self.augment(image, 0 * turn if stored else turn, numbers, "bicubic").clamp(0, 1)
            turn = turn + self.augment.random_angle(numbers)
        else:
            image = rotate_bicubic(image, turn)
        if self.border == "disc":
            image *= inscribed_disc(image.shape[-2:], image.device)
        return Batch(index=index, image=image, reference=None, angle=wrap(-turn), label=raw.label)
