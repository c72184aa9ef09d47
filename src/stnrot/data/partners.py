"""Choose the reference of each image: another image of its class, or any other image."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from stnrot.data.batch import RawBatch
from stnrot.data.image_set import ImageDataset, ImageSet
from stnrot.data.rng import Key, uniform
from stnrot.errors import InputError


class OtherInstance:
    """Give every image another image of its class as its reference, chosen by (key, counter)."""

    def __init__(self, images: ImageDataset, key: Key) -> None:
        if images.label is None:
            raise InputError("data.other_instance=true: expected class folders, the images have no classes")
        if not isinstance(images, ImageSet) or images.paired:
            raise InputError(
                "data.other_instance=true: expected single images kept in memory, not a manifest of pairs; "
                "for a set that is streamed raise data.source.memory_gb or lower data.source.image_size"
            )
        self.images, self.key, self.label, self.names = images, key, images.label, images.names
        self.paired = True
        self.by_class = self.label.argsort(stable=True)
        self.rank = torch.empty_like(self.by_class)
        self.rank[self.by_class] = torch.arange(len(self.label))
        self.size = self.label.bincount()
        self.first = self.size.cumsum(0) - self.size
        if (self.size == 1).any():
            lone = int((self.size == 1).nonzero()[0])
            raise InputError(
                "data.other_instance=true: expected at least 2 images of each class in each of the three sets, "
                f"class {lone} has 1 in one of them; add images"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        index = counters % len(self)
        label = self.label[index]
        others = self.size[label] - 1
        step = 1 + (uniform(self.key, counters, 1)[:, 0] * others).long()
        first = self.first[label]
        partner = self.by_class[first + (self.rank[index] - first + step) % self.size[label]]
        return self.images.__getitems__(counters)._replace(reference=self.images.__getitems__(partner).image)

    def subset(self, index: Int[Tensor, "M"]) -> "OtherInstance":
        return OtherInstance(self.images.subset(index), self.key)


class Unrelated:
    """Give a share of the images any other image as their reference, chosen by (key, counter).

    The angle of such a pair is random. The difference of the two rotations would be the angle between the upright
    images, which a network can learn. All other images keep their own reference.
    """

    def __init__(self, images: ImageDataset, share: float, key: Key) -> None:
        if images.paired and not isinstance(images, OtherInstance):
            raise InputError(f"data.unrelated={share}: expected 0 for the pairs of a manifest")
        if len(images) == 1:
            raise InputError(f"data.unrelated={share}: expected 0 for a training set of one image; add images")
        self.images, self.share, self.key = images, share, key
        self.label, self.names, self.shape, self.paired = images.label, images.names, images.shape, True

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        chosen, step, angle = uniform(self.key, counters, 3).unbind(1)
        mixed = chosen < self.share
        other = (counters + 1 + (step * (len(self) - 1)).long()) % len(self)
        raw = self.images.__getitems__(torch.cat((counters, other[mixed])))  # lacks the images that cannot be read
        read, partner = torch.isin(counters, raw.counter), mixed & torch.isin(other, raw.counter)
        count = int(read.sum())
        partners = raw.image[count:][read[partner]]
        raw = RawBatch(*(None if column is None else column[:count] for column in raw))  # type: ignore[arg-type]
        reference = (raw.image if raw.reference is None else raw.reference).clone()
        reference[partner[read]] = partners
        between = torch.where(partner, 2 * math.pi * angle, 0.0)[read]
        return raw._replace(reference=reference, angle=between)

    def subset(self, index: Int[Tensor, "M"]) -> "Unrelated":
        return Unrelated(self.images.subset(index), self.share, self.key)
