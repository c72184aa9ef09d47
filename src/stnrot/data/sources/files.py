"""Images in files, decoded once into memory or each time they are needed (streamed), and their split by a seed."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from stnrot.data.batch import RawBatch
from stnrot.data.image_set import ImageDataset, ImageSet, Splits, rank_in_class
from stnrot.data.rng import permutation
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.errors import InputError, check_number
from stnrot.machine import allowed_memory, thread_pool

log = logging.getLogger(__name__)


@runtime_checkable
class Streamed(ImageDataset, Protocol):
    """Images that are decoded each time they are fetched, and can be decoded once."""

    @property
    def decoding(self) -> Decoding: ...

    def in_memory(self) -> ImageSet: ...


@dataclass(frozen=True)
class FileSet:
    """Images, or pairs of images, that are decoded each time they are fetched.

    `files` has the names of the images and, for pairs, those of the references.
    """

    files: tuple[FileNames, ...]
    decoding: Decoding
    label: Int[Tensor, "N"] | None = None
    angle: Float[Tensor, "N"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.decoding.shape

    @property
    def paired(self) -> bool:
        """Whether every image has a reference."""
        return len(self.files) == 2

    @property
    def names(self) -> FileNames:
        """The path of each sample's image."""
        return self.files[0]

    def __len__(self) -> int:
        return len(self.names)

    def _read(self, index: int) -> UInt8[Tensor, "files C H W"] | InputError:
        try:
            return torch.from_numpy(np.stack([self.decoding.read(Path(names[index])) for names in self.files]))
        except InputError as error:
            return error

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        found = [self._read(index) for index in (counters % len(self)).tolist()]
        good = torch.tensor([not self.decoding.is_bad(answer) for answer in found])
        if not good.any():
            first = self.names[int(counters[0]) % len(self)]
            raise InputError(f"no image of a whole batch can be read: replace the files, the first is {first}")
        pixels = torch.stack([answer for answer in found if isinstance(answer, Tensor)])
        counters = counters[good]
        index = counters % len(self)
        return RawBatch(
            counters,
            pixels[:, 0],
            pixels[:, 1] if pixels.shape[1] == 2 else None,
            None if self.angle is None else self.angle[index],
            None if self.label is None else self.label[index],
        )

    def subset(self, index: Int[Tensor, "M"]) -> "FileSet":
        """Return the samples at `index`, in that order."""
        return replace(
            self,
            files=tuple(names.subset(index.numpy()) for names in self.files),
            label=None if self.label is None else self.label[index],
            angle=None if self.angle is None else self.angle[index],
        )

    def in_memory(self) -> ImageSet:
        """Decode all files now, in several threads."""
        with thread_pool() as pool:
            found = list(pool.map(self._read, range(len(self))))
        good = torch.tensor([i for i, answer in enumerate(found) if not self.decoding.is_bad(answer)])
        if not len(good):
            raise InputError(f"none of {len(self)} images can be read: replace the files, the first is {self.names[0]}")
        pixels = torch.stack([answer for answer in found if isinstance(answer, Tensor)])
        kept = self.subset(good)
        reference = pixels[:, 1] if pixels.shape[1] == 2 else None
        return ImageSet(pixels[:, 0], kept.label, reference, kept.angle, tuple(kept.names))


def memory_or_stream(train: Streamed, val: Streamed, test: Streamed, classes: tuple[str, ...]) -> Splits:
    """Return the splits, decoded into memory if all three together fit; else as they are, to be streamed."""
    parts = (train, val, test)
    limit = train.decoding.memory_gb
    if limit is None:
        limit = allowed_memory() / 4e9
    images = sum(len(part) * (1 + part.paired) for part in parts)
    if images * math.prod(train.shape) > limit * 1e9:
        log.info("%d images take more than %.3g GB: they are streamed, see data.num_workers", images, limit)
        return Splits(train, val, test, classes)
    kept = [part.in_memory() if len(part) else part for part in parts]
    return Splits(kept[0], kept[1], kept[2], classes)


Samples = TypeVar("Samples", bound=ImageDataset)


def completed(
    given: Mapping[str, Samples], split_seed: int, val_fraction: float, test_fraction: float
) -> tuple[Samples, Samples, Samples]:
    """Return the sets `train`, `val` and `test`; one of the last two that is not given is split off from the first."""
    val_fraction = 0.0 if "val" in given else val_fraction
    test_fraction = 0.0 if "test" in given else test_fraction
    if {"val", "test"} <= given.keys():  # a split takes several arrays of the length of the set
        return given["train"], given["val"], given["test"]
    train, val, test = split_by_seed(given["train"], split_seed, val_fraction, test_fraction)
    return train, given.get("val", val), given.get("test", test)


def split_by_seed(
    samples: Samples, split_seed: int, val_fraction: float, test_fraction: float
) -> tuple[Samples, Samples, Samples]:
    """Return a training, a validation and a test set with the same fractions of every class, drawn by `split_seed`."""
    check_number("data.source.val_fraction", val_fraction, 0, 1, whole=False)
    check_number("data.source.test_fraction", test_fraction, 0, 1, whole=False)
    if val_fraction + test_fraction > 1:
        raise InputError(
            "data.source: expected val_fraction and test_fraction that sum to at most 1, "
            f"got {val_fraction} and {test_fraction}"
        )
    label = torch.zeros(len(samples), dtype=torch.int64) if samples.label is None else samples.label
    order = permutation((split_seed,), len(samples))
    rank, size = rank_in_class(label, order)
    place = (rank + 0.5) / size  # of a sample in its class, in (0, 1)
    in_test = place < test_fraction
    in_val = ~in_test & (place < test_fraction + val_fraction)
    train, val, test = (samples.subset(mask.nonzero()[:, 0]) for mask in (~in_test & ~in_val, in_val, in_test))
    return train, val, test  # type: ignore[return-value]  # a subset has the class of its set
