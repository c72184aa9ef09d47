"""The index of a split: for each image its shard, the place of its bytes in it, and its class."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stnrot.data.sources.shards.info import ShardInfo, SplitInfo
from stnrot.errors import InputError
from stnrot.printed import printable

ROW = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("label", "<i4")])  # label -1: none
LARGEST = 2**30  # bytes of an image file


def index_name(split: str) -> str:
    """Return the name of the index file of a split: rows of the type `ROW`, without a header."""
    return f"{split}.index"


def names_name(split: str) -> str:
    """Return the name of the file with the names of the images of a split, one a line."""
    return f"{split}.names.txt"


def packed(shard: int, offset: int, size: int, label: int) -> bytes:
    """Return a row of an index file."""
    return struct.pack("<IQIi", shard, offset, size, label)


def index_bytes(split: SplitInfo) -> int:
    """Return the size of the index file."""
    return ROW.itemsize * split.num_samples


def write_index(folder: Path, split: str, rows: bytes, names: Iterable[str]) -> int:
    """Write the index of a split and the names of its images; return the bytes of the file of names.

    Args:
        rows: of the type `ROW`.
    """
    (folder / index_name(split)).write_bytes(rows)
    file = folder / names_name(split)
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        lines.writelines(f"{printable(name)}\n" for name in names)
    return file.stat().st_size


def read_index(file: BinaryIO, place: str, info: ShardInfo, split: SplitInfo) -> np.ndarray:
    """Return the rows of an index, mapped into memory.

    Args:
        file: open; it may be closed and removed afterwards.
        place: its path or URL, for messages.

    Raises:
        InputError: if the file is not the index of this split.
    """
    try:
        table = np.memmap(file, dtype=ROW, mode="r")
    except (OSError, ValueError) as error:  # ValueError: of an empty file
        raise InputError(f"cannot read {place}: {error}; write the shards again with stnrot shards") from error
    shards, lowest = len(split.filenames), 0 if info.classes else -1
    fits = (
        table.shape == (split.num_samples,)
        and (table["shard"] < shards).all()
        and (np.bincount(table["shard"], minlength=shards) == split.shard_lengths).all()
        and (table["size"] <= LARGEST).all()
        and (table["offset"] < 2**48).all()
        and (table["offset"] + table["size"] <= np.array(split.shard_bytes, dtype=np.uint64)[table["shard"]]).all()
        and ((table["label"] >= lowest) & (table["label"] < max(len(info.classes), lowest + 1))).all()
    )
    if not fits:
        raise InputError(
            f"{place} is not the index of the shards of {split.name}: expected the file that stnrot shards wrote with "
            "them; write them again"
        )
    return table
