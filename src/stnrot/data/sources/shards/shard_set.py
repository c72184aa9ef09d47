"""Images in shards, decoded each time they are fetched, and the order in which a training goes through the shards."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from stnrot.data.batch import RawBatch
from stnrot.data.batch_samplers import Batches
from stnrot.data.image_set import ImageSet
from stnrot.data.rng import Key
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.shards.index import names_name
from stnrot.data.sources.shards.info import SplitInfo
from stnrot.data.sources.shards.order import shard_order
from stnrot.data.sources.shards.prefetch import Prefetched
from stnrot.data.sources.shards.remote import RemoteShards
from stnrot.errors import InputError
from stnrot.machine import thread_pool

CHUNK = 256  # images that one thread decodes in turn
Pixels = UInt8[np.ndarray, "C H W"]


@runtime_checkable
class ShardStore(Protocol):
    """Where a set of shards and its index lie: `LocalShards` or `RemoteShards`."""

    def open(self, name: str, size: int) -> BinaryIO: ...

    def place(self, name: str) -> str: ...


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Some images of a split of shards.

    Args:
        store: where the shards lie.
        index: where the names of the images of the split lie.
        split: the names and sizes of the shards.
        table: the index of the whole split.
        row: of each image of this set, in the table.
        open_shards: the order of a training draws from so many places of the set at once.
        fingerprint: that of the whole set, see `ShardInfo`.
    """

    store: ShardStore
    index: ShardStore
    split: SplitInfo
    table: np.ndarray
    row: Int[np.ndarray, "N"]
    decoding: Decoding
    open_shards: int
    fingerprint: str

    @cached_property
    def label(self) -> Int[Tensor, "N"] | None:
        """The class of each image."""
        label = torch.from_numpy(self.table["label"][self.row].astype(np.int64))
        return None if (label < 0).any() else label

    @property
    def names(self) -> FileNames:
        """The name of each image: its path in the folder that the shards were written from."""
        return self._all_names.subset(self.row)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.decoding.shape

    @property
    def paired(self) -> bool:
        """Whether every image has a reference."""
        return False

    def __len__(self) -> int:
        return len(self.row)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        index = counters.numpy() % len(self)
        found = self._read(self.row[index])
        good = torch.tensor([not self.decoding.is_bad(answer) for answer in found])
        if not good.any():
            raise InputError(f"no image of a whole batch can be read; {found[0]}")
        label = None if self.label is None else self.label[torch.from_numpy(index)][good]
        return RawBatch(counters[good], _stacked(found), None, None, label)

    def subset(self, index: Int[Tensor, "M"]) -> "ShardSet":
        """Return the images at `index`, in that order."""
        return replace(self, row=self.row[index.numpy()])

    def in_memory(self) -> ImageSet:
        """Decode all images now, in several threads."""
        chunks = [self.row[start : start + CHUNK] for start in range(0, len(self), CHUNK)]
        with thread_pool() as pool:
            found = [answer for answers in pool.map(self._read, chunks) for answer in answers]
        good = torch.tensor([i for i, answer in enumerate(found) if not self.decoding.is_bad(answer)])
        if not len(good):
            raise InputError(f"none of {len(self)} images can be read; {found[0]}")
        kept = self.subset(good)
        return ImageSet(_stacked(found), kept.label, names=tuple(kept.names))

    def order(self, key: Key, count: int) -> Int[Tensor, "{count}"]:
        """Return a random order of `range(count)`, for `count` a multiple of the number of images, shard by shard.

        See `shard_order`, with `open_shards` parts. So a batch has images of many shards, and reads each shard only
        while it is its turn. If `open_shards` is a multiple of the number of processes, and the batch size one of
        `open_shards`, a process reads no shard of another but at the cuts.
        """
        return shard_order(self.table["shard"][self.row], min(self.open_shards, len(self)), key, count)

    def prefetched(self, batches: Batches, workers: int, processes: int) -> Batches:
        """Return batches that fetch the shards of a web server in the background; others stay as they are.

        Args:
            workers: processes that read the batches.
            processes: of the job on this machine, which share the cache.
        """
        if not isinstance(self.store, RemoteShards):
            return batches
        room = self.store.limit // processes
        # a loader hands two batches to each worker
        return Prefetched(batches, self._shards_of, self.store, self.split, room, 2 * self.open_shards + 1, 2 * workers)

    def _shards_of(self, counters: Int[Tensor, "B"]) -> list[int]:
        return np.unique(self.table["shard"][self.row[counters.numpy() % len(self)]]).tolist()

    def _read(self, rows: Int[np.ndarray, "B"]) -> list[Pixels | InputError]:
        """Return the pixels of some rows of the table, or what is wrong with an image."""
        found: dict[int, Pixels | InputError] = {}
        chosen = self.table[rows]
        for shard in np.unique(chosen["shard"]):
            name, size = self.split.filenames[shard], self.split.shard_bytes[shard]
            with self.store.open(name, size) as file:
                for place in np.flatnonzero(chosen["shard"] == shard):
                    offset, length = int(chosen["offset"][place]), int(chosen["size"][place])
                    file.seek(offset)
                    content = file.read(length)
                    if len(content) < length:
                        raise InputError(f"{self.store.place(name)} is cut off: expected {size} bytes; copy it again")
                    found[int(place)] = self._decoded(content, f"{name}@{offset}", int(rows[place]))
        return [found[place] for place in range(len(rows))]

    def _decoded(self, content: bytes, place: str, row: int) -> Pixels | InputError:
        try:
            return self.decoding.read(Path(place), content)
        except InputError as error:
            return InputError(str(error).replace(place, f"{self._all_names[row]} in {place.partition('@')[0]}", 1))

    @cached_property
    def _all_names(self) -> FileNames:
        """Return the name of each row of the table."""
        name = names_name(self.split.name)
        with self.index.open(name, self.split.names_bytes) as file:
            text = np.frombuffer(file.read().decode(errors="replace").encode(), np.uint8)
        stop = np.flatnonzero(text == ord("\n"))
        if len(stop) < len(self.table):
            raise InputError(f"{self.index.place(name)} has too few names: expected {len(self.table)}; copy it again")
        return FileNames("", text, np.concatenate(([0], stop[:-1] + 1)), stop)


def _stacked(found: list[Pixels | InputError]) -> UInt8[Tensor, "N C H W"]:
    return torch.from_numpy(np.stack([answer for answer in found if isinstance(answer, np.ndarray)]))
