"""Pairs of pictures and the angle between them, made from single pictures or read from a manifest."""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.degrade import NUMBERS, Degrade
from stnrot.data.image_data import ImageData, as_float
from stnrot.data.image_set import ImageDataset, ImageSet, Splits
from stnrot.data.rng import Key, Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_number
from stnrot.geometry import inscribed_disc, rotate_bicubic, rotation_theta, warp, wrap


class OtherInstance:
    """Give every picture another one of its class as reference, chosen by (key, draw)."""

    def __init__(self, pictures: ImageDataset, key: Key) -> None:
        if pictures.label is None:
            raise InputError("data.other_instance=true: expected class folders, the images have no classes")
        if not isinstance(pictures, ImageSet) or pictures.paired:
            raise InputError(
                "data.other_instance=true: expected single images kept in memory, not a manifest of pairs; "
                "for a set that is streamed raise data.source.memory_gb or lower data.source.image_size"
            )
        self.pictures, self.key, self.label, self.names = pictures, key, pictures.label, pictures.names
        self.paired = True
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

    def __getitems__(self, draws: Int[Tensor, "B"]) -> RawBatch:
        index = draws % len(self)
        label = self.label[index]
        others = self.size[label] - 1
        step = 1 + (uniform(self.key, draws, 1)[:, 0] * others).long()
        first = self.first[label]
        partner = self.by_class[first + (self.rank[index] - first + step) % self.size[label]]
        return self.pictures.__getitems__(draws)._replace(reference=self.pictures.__getitems__(partner).image)

    def subset(self, index: Int[Tensor, "M"]) -> "OtherInstance":
        return OtherInstance(self.pictures.subset(index), self.key)


class Unrelated:
    """Give a share of the pictures any other one as reference, chosen by (key, draw), the others themselves.

    The angle of such a pair is any: that between their turns would be the one between their uprights, which can be
    learned.
    """

    def __init__(self, pictures: ImageDataset, share: float, key: Key) -> None:
        if pictures.paired and not isinstance(pictures, OtherInstance):
            raise InputError(f"data.unrelated={share}: expected 0 for the pairs of a manifest")
        self.pictures, self.share, self.key = pictures, share, key
        self.label, self.names, self.shape, self.paired = pictures.label, pictures.names, pictures.shape, True

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, draws: Int[Tensor, "B"]) -> RawBatch:
        chosen, step, angle = uniform(self.key, draws, 3).unbind(1)
        mixed = chosen < self.share
        other = (draws + 1 + (step * (len(self) - 1)).long()) % len(self)
        raw = self.pictures.__getitems__(torch.cat((draws, other[mixed])))  # without those that cannot be read
        read, partner = torch.isin(draws, raw.draw), mixed & torch.isin(other, raw.draw)
        count = int(read.sum())
        partners = raw.image[count:][read[partner]]
        raw = RawBatch(*(None if column is None else column[:count] for column in raw))  # type: ignore[arg-type]
        reference = (raw.image if raw.reference is None else raw.reference).clone()
        reference[partner[read]] = partners
        between = torch.where(partner, 2 * math.pi * angle, 0.0)[read]
        return raw._replace(reference=reference, angle=between)

    def subset(self, index: Int[Tensor, "M"]) -> "Unrelated":
        return Unrelated(self.pictures.subset(index), self.share, self.key)


class ImagePairs(ImageData):
    """Two pictures in, the angle between them out.

    Both pictures of a pair are turned by independent angles over the full circle: were only one
    resampled, a network could read the angle from the traces of interpolation. Pairs of a manifest are
    evaluated as they are and turned further in training; their angle may be unknown.

    Args:
        turn_reference: False leaves the reference upright; a split that shows the trap named above.
        other_instance: the reference is another picture of the class, both upright before the turns.
        unrelated: share of the training pairs whose reference is any other picture, their angle any angle, which
            teaches an encoder to be unsure of what does not match. Not for pairs of a manifest.
        degrade: what the pictures differ in beside their turn; not for pairs of a manifest.
        border: what becomes of the corners that a turn blackens, and that would give the angle away. `disc` blacks out
            all that a turn (or `degrade.shift`) can reach, in every picture: what lies outside the inscribed disc;
            `cut` keeps the largest square that neither reaches, so that nothing is black that is not so in the scene:
            for pictures that show more than is needed; `keep` leaves them: for pictures on black.
        options: those of `ImageData`.
    """

    def __init__(
        self,
        *,
        turn_reference: bool,
        other_instance: bool,
        unrelated: float,
        degrade: Degrade,
        border: str,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_number("data.unrelated", unrelated, 0, 1, whole=False)
        self.turn_reference, self.other_instance, self.unrelated = turn_reference, other_instance, unrelated
        if border not in ("disc", "cut", "keep"):
            raise InputError(f"data.border: expected disc, cut or keep, got {border!r}")
        self.degrade, self.border = degrade, border

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
        if self.unrelated:
            mixed = Unrelated(self.splits.train, self.unrelated, (self.seed, Purpose.UNRELATED))
            self.splits = replace(self.splits, train=mixed)

    def _seed(self, split: Split) -> int:
        return self.seed if split is Split.TRAIN else self.split_seed

    def spec(self) -> dict[str, Any]:
        """Return what a model must know of the data: the shape of a picture and the classes."""
        known = super().spec()
        channels, height, width = self.splits.train.shape
        _, known["height"], known["width"] = self._cut(torch.empty(channels, height, width)).shape
        return known

    def _cut(self, image: Tensor) -> Tensor:
        if self.border != "cut":
            return image
        height, width = image.shape[-2:]
        side = (min(height, width) - 1) / (math.sqrt(2) * (1 + 2 * self.degrade.shift))
        top, left = (math.ceil((length - side) / 2) for length in (height, width))
        return image[..., top : height - top, left : width - left]  # about the same centre

    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Turn both pictures, then degrade them."""
        seed = self._seed(split)
        count = len(self.splits.part(split))

        def turn(purpose: Purpose) -> Tensor:
            return (2 * uniform((seed, split, purpose), raw.draw, 1)[:, 0] - 1) * math.pi

        image = as_float(raw.image)
        made = self.other_instance or isinstance(self.splits.part(split), Unrelated)
        given = raw.reference is not None and not made
        reference = image if raw.reference is None else as_float(raw.reference)
        numbers = uniform((seed, split, Purpose.DEGRADE), raw.draw, NUMBERS)
        size = image.new_tensor(image.shape[:1:-1])  # width, height
        shown = image.new_tensor(self._cut(image).shape[:1:-1])
        moved = torch.zeros_like(numbers[:, :2]) if given else 2 * self.degrade.displacement(numbers) * shown / size
        angle = torch.zeros(len(image), device=image.device) if raw.angle is None and not given else raw.angle
        if not given or split is Split.TRAIN:
            first = turn(Purpose.TURN)
            second = turn(Purpose.REFERENCE_TURN) if self.turn_reference else torch.zeros_like(first)
            matrix = rotation_theta(first, *image.shape[-2:])[..., :2]
            image = warp(image, torch.cat((matrix, matrix @ -moved[..., None]), -1), "bicubic").clamp(0, 1)
            reference = rotate_bicubic(reference, second)
            angle = None if angle is None else wrap(angle - first + second)
        image, reference = self._cut(image), self._cut(reference)
        if not given:
            noise = None
            if self.degrade.noise:
                pixels = torch.cat((image, reference), 1)
                noise = normal((seed, split, Purpose.NOISE), raw.draw, pixels[0].numel()).view_as(pixels)
            image, reference = self.degrade(image, reference, numbers, noise)
        if self.border == "disc":
            margin = 0.0 if given else self.degrade.shift * math.hypot(*image.shape[-2:])
            inside = inscribed_disc(image.shape[-2:], image.device, margin)
            image, reference = image * inside, reference * inside
        return Batch(raw.draw % count, image, reference, angle, raw.label)
