"""The names of many files in little memory."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from jaxtyping import Int64, UInt8


@dataclass(frozen=True, eq=False)
class FileNames(Sequence[str]):
    """Names of files, one after another in one array of bytes.

    A million names take a few dozen megabytes, as a tuple of `Path` hundreds. The processes that a loader forks share
    the array. Python objects would soon be copied into each of them, because every access to an object changes its
    count of references.

    Args:
        prefix: begins every name.
        text: the rest of all names, encoded as in the file system.
        start: places in `text` where the names begin.
        stop: places in `text` where they end.
    """

    prefix: str
    text: UInt8[np.ndarray, "bytes"]
    start: Int64[np.ndarray, "N"]
    stop: Int64[np.ndarray, "N"]

    @classmethod
    def of(cls, names: Iterable[str], prefix: str = "") -> "FileNames":
        """Store names without their common prefix."""
        text, ends = bytearray(), [0]
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        places = np.array(ends, np.int64)
        return cls(prefix, np.frombuffer(bytes(text), np.uint8), places[:-1], places[1:])

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "FileNames": ...

    def __getitem__(self, index: int | slice) -> "str | FileNames":
        if isinstance(index, slice):
            return self.subset(index)
        return self.prefix + os.fsdecode(self.rest(index))

    def rest(self, index: int) -> bytes:
        """Return a name without the prefix, encoded."""
        return self.text[self.start[index] : self.stop[index]].tobytes()

    def subset(self, index: Int64[np.ndarray, "M"] | slice) -> "FileNames":
        """Return the names at `index`, in that order. They share the text."""
        return replace(self, start=self.start[index], stop=self.stop[index])
