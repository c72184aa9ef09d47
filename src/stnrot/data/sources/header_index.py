"""The headers of many image files, kept from one start to the next: an index in the user's cache folder."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.file_names import FileNames
from stnrot.runs.atomic_write import atomic_write, sweep
from stnrot.runs.file_lock import in_turn

log = logging.getLogger(__name__)

VERSION = 1
FACTS = 5  # numbers of a file: its size, mtime and ctime, then the pixels and whether it is grey


@dataclass(frozen=True, eq=False)
class HeaderIndex:
    """What an earlier start has read from the headers of image files.

    Args:
        row: row in `facts` of each name, without the prefix that all have.
        facts: size in bytes, time of the last change (mtime) and that of the last change of the file's entry (ctime),
            both in nanoseconds; then the number of pixels, and 1 if the file is grey.
    """

    row: dict[bytes, int]
    facts: Int64[np.ndarray, "N 5"]

    def recall(
        self, names: FileNames, places: Int64[np.ndarray, "M"], states: Int64[np.ndarray, "M 3"]
    ) -> Int64[np.ndarray, "M 2"]:
        """Return the pixels and the grey flags of the files at `places`: zeros for files that changed or are new."""
        if not self.row:
            return np.zeros((len(places), 2), np.int64)
        rows = np.array([self.row.get(names.rest(i), -1) for i in places.tolist()], np.int64)
        same = (rows >= 0) & (self.facts[rows, :3] == states).all(1)
        return np.where(same[:, None], self.facts[rows, 3:], 0)


def index_folder(root: Path) -> Path:
    """Return the folder of the index of a data set: `stnrot/headers/HASH` in the user's cache folder.

    Raises:
        OSError: if the user has none.
    """
    return cache_folder() / "headers" / hashlib.sha256(_key(root)).hexdigest()[:32]


def read_index(root: Path) -> HeaderIndex:
    """Return the index of a data set. It is empty if there is none that can be read, or if it is that of another."""
    try:
        path = index_folder(root) / "index.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:  # compares the checksums
                if int(stored["version"]) == VERSION and stored["root"].tobytes() == _key(root):
                    names, facts = stored["names"].tobytes().split(b"\0"), stored["facts"]
                    if facts.dtype == np.int64 and facts.shape == (len(names), FACTS):
                        return HeaderIndex({name: i for i, name in enumerate(names)}, facts)
            log.info("%s is the index of another version or of other data: it is written anew", path)
    except Exception as error:  # a broken file can raise almost anything
        log.info("the index of %s cannot be read (%s): it is written anew", root, error)
    return HeaderIndex({}, np.zeros((0, FACTS), np.int64))


def write_index(root: Path, names: FileNames, facts: Int64[np.ndarray, "N 5"]) -> None:
    """Write the index of a data set, within `index_lock`."""
    path = index_folder(root) / "index.npz"
    text = b"\0".join(names.rest(i) for i in range(len(names)))
    with atomic_write(path) as new, new.open("wb") as file:
        np.savez(
            file,
            version=np.array(VERSION),
            root=np.frombuffer(_key(root), np.uint8),
            names=np.frombuffer(text, np.uint8),
            facts=facts,
        )
    log.info("the next start need not open these files: their headers are kept in %s", path)


@contextmanager
def index_lock(root: Path) -> Iterator[None]:
    """Hold the lock of an index. Jobs and processes that start together take turns.

    Raises:
        OSError: if there is no cache folder that can be written to.
    """
    folder = index_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    with in_turn(folder / "lock", f"another process reads the files below {root}: waiting for its index"):
        sweep(folder)
        yield


def _key(root: Path) -> bytes:
    return os.fsencode(os.path.abspath(root))
