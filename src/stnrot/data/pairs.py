"""Pairs of pictures and the angle between them, made from single pictures or read from a manifest."""

import math
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from stnrot.data.batch import Batch, Raw
from stnrot.data.draws import Key, Purpose, Split, normal, uniform
from stnrot.data.image_data import ImageData, as_float
from stnrot.data.image_set import ImageSet, PictureSet, Splits
from stnrot.errors import InputError, check_number
from stnrot.geometry import inscribed_disc, rotate, wrap


class OtherInstance:
    """Give every picture another one of its class as reference, chosen by (key, draw)."""

    def __init__(self, pictures: PictureSet, key: Key) -> None:
        if pictures.label is None:
            raise InputError("data.other_instance=true: expected class folders, the images have no classes")
        if not isinstance(pictures, ImageSet) or pictures.reference is not None:
            raise InputError(
                "data.other_instance=true: expected single images kept in memory, not a manifest of pairs; "
                "for a set that is streamed raise data.source.memory_gb or lower data.source.image_size"
            )
        self.pictures, self.key, self.label, self.names = pictures, key, pictures.label, pictures.names
        self.by_class = self.label.argsort(stable=True)
        self.rank = torch.empty_like(self.by_class)
        self.rank[self.by_class] = torch.arange(len(self.label))
        self.size = self.label.bincount()
        self.first = self.size.cumsum(0) - self.size
        if (self.size == 1).any():
            lone = int((self.size == 1).nonzero()[0])
            raise InputError(f"data.other_instance=true: expected at least 2 images a class, class {lone} has 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pictures.shape

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, draws: Int[Tensor, "B"]) -> Raw:
        index = draws % len(self)
        label = self.label[index]
        others = self.size[label] - 1
        step = 1 + (uniform(self.key, draws, 1)[:, 0] * others).long().clamp(max=others - 1)
        first = self.first[label]
        partner = self.by_class[first + (self.rank[index] - first + step) % self.size[label]]
        return self.pictures.__getitems__(draws)._replace(reference=self.pictures.__getitems__(partner).image)

    def subset(self, index: Int[Tensor, "M"]) -> "OtherInstance":
        return OtherInstance(self.pictures.subset(index), self.key)


class ImagePairs(ImageData):
    """Two pictures in, the angle between them out.

    Both pictures of a pair are turned by independent angles over the full circle: were only one
    resampled, a network could read the angle from the traces of interpolation. Pairs of a manifest are
    evaluated as they are and turned further in training; their angle may be unknown.

    Args:
        turn_reference: False leaves the reference upright; a split that shows the trap named above.
        other_instance: the reference is another picture of the class, both upright before the turns.
        gain: brightness factor drawn from 1 +- gain, for each picture apart; not for those of a manifest.
        noise: standard deviation of the Gaussian noise added to each picture, which lies in [0, 1]; likewise.
        disc: black out what lies outside the inscribed disc of both, which else gives the angle away.
        options: those of `ImageData`.
    """

    def __init__(
        self,
        *,
        turn_reference: bool,
        other_instance: bool,
        gain: float,
        noise: float,
        disc: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_number("data.gain", gain, 0, 1, whole=False)
        check_number("data.noise", noise, 0, whole=False)
        self.turn_reference, self.other_instance = turn_reference, other_instance
        self.gain, self.noise, self.disc = gain, noise, disc

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once, and choose the partners."""
        if hasattr(self, "splits"):
            return
        super().setup(stage)
        if self.other_instance:
            train, val, test = (
                OtherInstance(self.splits.part(split), (self._seed(split), split, Purpose.PARTNER)) for split in Split
            )
            self.splits = Splits(train, val, test, self.splits.classes)

    def _seed(self, split: Split) -> int:
        return self.seed if split is Split.TRAIN else self.split_seed

    def view(self, raw: Raw, split: Split) -> Batch:
        """Turn both pictures, then change their brightness and add noise."""
        seed = self._seed(split)
        count = len(self.splits.part(split))

        def turn(purpose: Purpose) -> Tensor:
            return (2 * uniform((seed, split, purpose), raw.draw, 1)[:, 0] - 1) * math.pi

        image = as_float(raw.image)
        given = raw.reference is not None and not self.other_instance
        reference = image if raw.reference is None else as_float(raw.reference)
        angle = raw.angle if given else torch.zeros(len(image), device=image.device)
        if not given or split is Split.TRAIN:
            first = turn(Purpose.TURN)
            second = turn(Purpose.REFERENCE_TURN) if self.turn_reference else torch.zeros_like(first)
            image, reference = rotate(image, first), rotate(reference, second)
            angle = None if angle is None else wrap(angle - first + second)
        if not given:
            image = self._degrade(image, raw.draw, (seed, split, 0))
            reference = self._degrade(reference, raw.draw, (seed, split, 1))
        if self.disc:
            inside = inscribed_disc(image.shape[-2:], image.device)
            image, reference = image * inside, reference * inside
        return Batch(raw.draw % count, image, reference, angle, raw.label)

    def _degrade(self, image: Tensor, draw: Tensor, key: Key) -> Tensor:
        gain = 1 + self.gain * (2 * uniform((*key, Purpose.GAIN), draw, 1) - 1)
        image = image * gain[..., None, None]
        if self.noise:
            image = image + self.noise * normal((*key, Purpose.NOISE), draw, image[0].numel()).view_as(image)
        return image.clamp(0, 1)
