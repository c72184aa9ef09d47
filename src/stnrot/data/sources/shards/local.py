"""Shards in a folder of this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder."""

    folder: Path

    def open(self, name: str, size: int) -> BinaryIO:
        """Open a file of the set. Raise InputError unless it has `size` bytes."""
        path = self.folder / name
        check_regular(path)
        try:
            file = path.open("rb")
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason_of(error)}; copy the whole set again") from error
        if (found := os.fstat(file.fileno()).st_size) != size:
            file.close()
            raise InputError(
                f"{path} has {found} bytes: expected {size}; it is cut off, or of another set: copy the whole set again"
            )
        return file

    def place(self, name: str) -> str:
        """Return the path of a file of the set, for messages."""
        return str(self.folder / name)
