"""Write shards from a folder of images."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from stnrot.data.image_set import ImageDataset, Splits, rank_in_class
from stnrot.data.rng import Purpose, Split, permutation, uniform
from stnrot.data.sources.shards.index import LARGEST, packed, write_index
from stnrot.data.sources.shards.info import INFO, ShardInfo, SplitInfo
from stnrot.errors import InputError, reason_of


def write_shards(
    folder: Path, splits: Splits, out: Path, shard_bytes: int, seed: int, written: Callable[[], object]
) -> ShardInfo:
    """Write the images of a folder to shards in `out`, a new folder. The files are copied as they are.

    The training images are shuffled so that each shard has all classes in proportion. The others keep their order: it
    decides how an image is rotated in an evaluation.

    Args:
        folder: the names of the images start there.
        splits: sets of files, not decoded.
        shard_bytes: a new shard begins before a shard has more, with one image at least.
        seed: of the order of the training images.
        written: called after each image.
    """
    infos, digest = {}, sha256()
    for split in Split:
        part, name = splits.part(split), split.name.lower()
        if not len(part):
            continue
        order = _mixed(part, seed) if split is Split.TRAIN else torch.arange(len(part))
        assert part.names is not None
        labels = torch.full((len(part),), -1) if part.label is None else part.label
        writer = _Writer(out, name, shard_bytes, digest)
        with writer.closing():
            for number, i in enumerate(order.tolist()):
                writer.add(f"{number:08d}", Path(part.names[i]), int(labels[i]))
                written()
        names = (os.path.relpath(part.names[i], folder) for i in order.tolist())
        names_bytes = write_index(out, name, bytes(writer.rows), names)
        infos[name] = SplitInfo(name, tuple(writer.names), tuple(writer.lengths), tuple(writer.sizes), names_bytes)
    info = ShardInfo(infos, splits.classes, splits.train.shape[0] == 1, digest.hexdigest()[:32])
    (out / INFO).write_text(info.to_json(), encoding="utf-8")
    return info


def _mixed(part: ImageDataset, seed: int) -> Int[Tensor, "N"]:
    """Return a random order in which every stretch has the classes in proportion."""
    label = torch.zeros(len(part), dtype=torch.int64) if part.label is None else part.label
    key = (seed, Purpose.SHARD)
    rank, size = rank_in_class(label, permutation(key, len(part)))
    place = (rank + uniform(key, torch.arange(len(part)), 2)[:, 1]) / size  # of an image in its class, in (0, 1)
    return place.argsort(stable=True)


class _Writer:
    """Write the shards of a split, one after another."""

    def __init__(self, out: Path, split: str, shard_bytes: int, digest: Any) -> None:
        self.out, self.split, self.shard_bytes, self.digest = out, split, shard_bytes, digest
        self.names: list[str] = []
        self.lengths: list[int] = []
        self.sizes: list[int] = []
        self.rows = bytearray()  # of the index
        self.tar: tarfile.TarFile | None = None

    def add(self, key: str, path: Path, label: int) -> None:
        """Append an image and its class (-1: none)."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the image {path}: {reason_of(error)}") from error
        if len(content) > LARGEST:
            raise InputError(f"{path} has {len(content)} bytes: expected at most {LARGEST}; shrink it")
        parts = [(f"{key}{path.suffix.lower()}", content)]
        parts += [] if label < 0 else [(f"{key}.cls", str(label).encode())]
        needed = sum(tarfile.BLOCKSIZE * (1 + -(-len(part) // tarfile.BLOCKSIZE)) for _, part in parts)
        if self.tar is None or _closed_size(self.tar.offset + needed) > self.shard_bytes:
            self._begin()
        assert self.tar is not None
        self.rows += packed(len(self.names) - 1, self.tar.offset + tarfile.BLOCKSIZE, len(content), label)
        for name, part in parts:
            member = tarfile.TarInfo(name)  # of no owner, and of no time: the same images make the same bytes
            member.size = len(part)
            self.tar.addfile(member, io.BytesIO(part))
            self.digest.update(member.tobuf() + part)
        self.lengths[-1] += 1

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the last shard at the end."""
        try:
            yield
            self._end()
        finally:
            if self.tar is not None:
                self.tar.close()

    def _begin(self) -> None:
        self._end()
        self.names.append(f"{self.split}-{len(self.names):06d}.tar")
        self.lengths.append(0)
        path = self.out / self.names[-1]
        self.tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)  # `closing` closes it

    def _end(self) -> None:
        if self.tar is not None:
            self.tar.close()
            self.tar = None
            self.sizes.append((self.out / self.names[-1]).stat().st_size)


def _closed_size(content: int) -> int:
    """Return the bytes of a tar file with its end: two empty blocks, filled up to a whole record."""
    return -(-(content + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
