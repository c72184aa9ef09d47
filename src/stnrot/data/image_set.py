"""Sets of images, and the three splits that a source returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from stnrot.data.batch import RawBatch
from stnrot.data.rng import Key, Split, permutation


@runtime_checkable
class ImageDataset(Protocol):
    """Images of one size. A whole batch is fetched at once, by counters: see `RawBatch`."""

    @property
    def label(self) -> Int[Tensor, "N"] | None: ...

    @property
    def names(self) -> Sequence[str] | None: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def paired(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch: ...

    def subset(self, index: Int[Tensor, "M"]) -> "ImageDataset": ...


@dataclass(frozen=True)
class ImageSet:
    """Images in memory, as bytes. Pairs of a manifest also have references and angles."""

    image: UInt8[Tensor, "N C H W"]
    label: Int[Tensor, "N"] | None = None
    reference: UInt8[Tensor, "N C H W"] | None = None
    angle: Float[Tensor, "N"] | None = None
    names: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.image.shape[1:]
        return channels, height, width

    @property
    def paired(self) -> bool:
        """Whether every image has a reference."""
        return self.reference is not None

    def __len__(self) -> int:
        return len(self.image)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        index = counters % len(self)
        reference, angle, label = (
            None if column is None else column[index] for column in (self.reference, self.angle, self.label)
        )
        return RawBatch(counters, self.image[index], reference, angle, label)

    def subset(self, index: Int[Tensor, "M"]) -> "ImageSet":
        """Return the images at `index`, in that order."""
        label, reference, angle = (
            None if column is None else column[index] for column in (self.label, self.reference, self.angle)
        )
        names = None if self.names is None else tuple(self.names[i] for i in index.tolist())
        return ImageSet(self.image[index], label, reference, angle, names)


@dataclass(frozen=True)
class Splits:
    """Training, validation and test set, and the names of the classes: none if there are no labels.

    Args:
        turned: whether the images are stored rotated, each by an angle that is not known.
    """

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    classes: tuple[str, ...]
    turned: bool = False

    def part(self, split: Split) -> ImageDataset:
        """Return one of the three sets."""
        return (self.train, self.val, self.test)[split]


def balanced_order(label: Int[Tensor, "N"], key: Key) -> Int[Tensor, "N"]:
    """Return a random order in which every prefix holds the classes as evenly as possible."""
    order = permutation(key, len(label))
    rank, _ = rank_in_class(label, order)
    return order[rank[order].argsort(stable=True)]


def rank_in_class(label: Int[Tensor, "N"], order: Int[Tensor, "N"]) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Return how many samples of the same class come before each sample in `order`, and the size of its class."""
    sizes = label.unique(return_counts=True)[1]  # classes in ascending order
    by_class = order[label[order].argsort(stable=True)]
    start = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank, size = torch.empty_like(order), torch.empty_like(order)
    rank[by_class] = torch.arange(len(order)) - start
    size[by_class] = sizes.repeat_interleave(sizes)
    return rank, size
