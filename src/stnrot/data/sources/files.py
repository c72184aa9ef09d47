"""Pictures in files: decoded, stood upright, fitted into one size; in memory or streamed."""

import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from stnrot.data.batch import RawBatch
from stnrot.data.image_file import read_header, read_upright
from stnrot.data.image_set import ImageDataset, ImageSet
from stnrot.errors import InputError, check_number

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """How a file becomes an array.

    Args:
        image_size: height and width that every picture is brought to, its aspect ratio kept.
        fit: `crop` fills the frame and loses what sticks out; `pad` shows the whole picture on black. In turned
            pictures the black bars turn along and give the angle away, so pad those that have black around them.
        channels: 1 for grey, 3 for colour; None takes grey if every file is grey.
        max_pixels: a larger picture counts as bad.
        on_bad_image: `error` stops at an unreadable, truncated or oversized file, `skip` leaves it out
            with a warning. Both name the file.
        memory_gb: keep a set in memory up to this size, else stream it; None is a quarter of the machine's.
    """

    image_size: Sequence[int]
    fit: str
    channels: int | None
    max_pixels: int
    on_bad_image: str
    memory_gb: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, Sequence) or len(self.image_size) != 2:
            raise InputError(f"data.source.image_size={self.image_size}: expected height and width, such as [64,64]")
        for side in self.image_size:
            check_number("a side of data.source.image_size", side, 4)
        if self.fit not in ("crop", "pad"):
            raise InputError(f"data.source.fit: expected crop or pad, got {self.fit!r}")
        if self.on_bad_image not in ("error", "skip"):
            raise InputError(f"data.source.on_bad_image: expected error or skip, got {self.on_bad_image!r}")
        if self.channels not in (None, 1, 3):
            raise InputError(f"data.source.channels: expected 1, 3 or null, got {self.channels!r}")

    def read(self, path: Path) -> UInt8[np.ndarray, "C H W"]:
        """Decode one file, honouring its EXIF orientation."""
        height, width = self.image_size
        upright = read_upright(path, self.channels, self.max_pixels, (width, height))
        fitting = ImageOps.fit if self.fit == "crop" else ImageOps.pad
        fitted = fitting(upright, (width, height), Image.Resampling.BICUBIC)
        return np.atleast_3d(np.asarray(fitted)).transpose(2, 0, 1)

    def readable(self, pairs: Sequence[tuple[Path, ...]]) -> tuple[list[int], "Decoding"]:
        """Return which rows have good headers in all their files, and this decoding with its channels set."""

        def grey(files: tuple[Path, ...]) -> bool | InputError:
            try:
                return all(read_header(file, self.max_pixels).is_grey for file in files)
            except InputError as error:
                return error

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(grey, pairs))
        good = [i for i, answer in enumerate(found) if not self.is_bad(answer)]
        channels = self.channels or (1 if all(found[i] for i in good) else 3)
        return good, replace(self, channels=channels)

    def is_bad(self, answer: object) -> bool:
        """Apply the policy to what came of a file: raise, or warn and say True."""
        if not isinstance(answer, InputError):
            return False
        if self.on_bad_image == "error":
            raise InputError(f"{answer}; data.source.on_bad_image=skip leaves it out") from answer
        log.warning("skipped: %s", answer)
        return True


@dataclass(frozen=True)
class FileSet:
    """Pictures, or pairs of them, that are decoded when they are asked for.

    `files` has one tuple a sample: the image and, for pairs, the reference.
    """

    files: tuple[tuple[Path, ...], ...]
    decoding: Decoding
    label: Int[Tensor, "N"] | None = None
    angle: Float[Tensor, "N"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        height, width = self.decoding.image_size
        return self.decoding.channels or 3, height, width

    @property
    def paired(self) -> bool:
        """Whether each has a reference."""
        return any(len(files) == 2 for files in self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """The path of each sample's image."""
        return tuple(str(files[0]) for files in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def _read(self, index: int) -> UInt8[Tensor, "files C H W"] | InputError:
        try:
            return torch.from_numpy(np.stack([self.decoding.read(file) for file in self.files[index]]))
        except InputError as error:
            return error

    def __getitems__(self, draws: Int[Tensor, "B"]) -> RawBatch:
        found = [self._read(index) for index in (draws % len(self)).tolist()]
        good = torch.tensor([not self.decoding.is_bad(answer) for answer in found])
        if not good.any():
            raise InputError(
                f"a whole batch of unreadable images, the first is {self.names[int(draws[0]) % len(self)]}"
            )
        pixels = torch.stack([answer for answer in found if isinstance(answer, Tensor)])
        draws = draws[good]
        index = draws % len(self)
        return RawBatch(
            draws,
            pixels[:, 0],
            pixels[:, 1] if pixels.shape[1] == 2 else None,
            None if self.angle is None else self.angle[index],
            None if self.label is None else self.label[index],
        )

    def subset(self, index: Int[Tensor, "M"]) -> "FileSet":
        """Return the samples at `index`, in that order."""
        return replace(
            self,
            files=tuple(self.files[i] for i in index.tolist()),
            label=None if self.label is None else self.label[index],
            angle=None if self.angle is None else self.angle[index],
        )

    def in_memory(self) -> ImageSet:
        """Decode everything now, on all cores."""
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._read, range(len(self))))
        good = torch.tensor([i for i, answer in enumerate(found) if not self.decoding.is_bad(answer)])
        if not len(good):
            raise InputError(f"no readable image among {len(self)}, the first is {self.names[0]}")
        pixels = torch.stack([answer for answer in found if isinstance(answer, Tensor)])
        kept = self.subset(good)
        reference = pixels[:, 1] if pixels.shape[1] == 2 else None
        return ImageSet(pixels[:, 0], kept.label, reference, kept.angle, kept.names)


def memory_or_stream(parts: Sequence[FileSet]) -> list[ImageDataset]:
    """Decode all the parts of a data set now if together they fit in memory; else stream them."""
    decoding = parts[0].decoding
    limit = decoding.memory_gb
    if limit is None:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4e9
    pictures = sum(len(files) for part in parts for files in part.files)
    if pictures * math.prod(parts[0].shape) > limit * 1e9:
        log.info("%d pictures take more than %.3g GB: they are streamed, see data.num_workers", pictures, limit)
        return list(parts)
    return [part.in_memory() if part.files else part for part in parts]


def split_by_seed(
    label: Int[Tensor, "N"], order: Int[Tensor, "N"], val_fraction: float, test_fraction: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return indices of train, validation and test, with the same shares of every class."""
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction <= 1):
        raise InputError(
            "data.source: expected val_fraction and test_fraction that sum to at most 1, "
            f"got {val_fraction} and {test_fraction}"
        )
    place = torch.empty(len(label))
    for c in label.unique():
        members = order[label[order] == c]
        place[members] = (torch.arange(len(members)) + 0.5) / len(members)
    test = place < test_fraction
    val = ~test & (place < test_fraction + val_fraction)
    train, val, test = (mask.nonzero()[:, 0] for mask in (~test & ~val, val, test))
    return train, val, test
