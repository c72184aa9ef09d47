"""Read the headers of many image files, with an index of those that an earlier start has read."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from stnrot.data.image_file import ImageHeader, read_header
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.header_index import FACTS, index_lock, read_index, write_index
from stnrot.errors import InputError
from stnrot.machine import thread_pool

log = logging.getLogger(__name__)

WORTH = 1000  # files: to open fewer takes less than a second
SETTLED = 2 * 10**9  # nanoseconds: some file systems count time in steps of two seconds
CHUNK = 256  # files that a thread takes at once
MOST = 2**63  # of a time: some file systems have dates beyond the year 2262


@dataclass(frozen=True, eq=False)
class Headers:
    """What the headers of image files say. A file that cannot be read has an error."""

    is_grey: Bool[np.ndarray, "N"]
    errors: Mapping[int, InputError]


def read_headers(root: Path, names: FileNames, max_pixels: int) -> Headers:
    """Return what the headers of files say. Files that the index of `root` knows are not opened.

    A file is opened again if its size, its mtime or its ctime is another, so an index changes no result. If many files
    had to be opened, the index is written anew. Without a cache folder that can be written to, every start opens all
    files.

    Args:
        root: the folder or table that lists the files: each has an index of its own.
        names: of the files.
        max_pixels: a file with more pixels has an error.
    """
    facts, errors, now = np.zeros((len(names), FACTS), np.int64), dict[int, InputError](), time.time_ns()

    def examine(places: Int64[np.ndarray, "M"]) -> None:
        facts[places, :3] = [_state(names[i]) for i in places.tolist()]

    def open_files(places: Int64[np.ndarray, "M"]) -> None:
        for i in places.tolist():
            found = _header(names[i], max_pixels)
            if isinstance(found, InputError):
                errors[i] = found
            else:
                facts[i, 3:] = found

    def recall(places: Int64[np.ndarray, "M"]) -> Int64[np.ndarray, "L"]:
        """Fill in what the index knows; return the places of the other files."""
        facts[places, 3:] = read_index(root).recall(names, places, facts[places, :3])
        pixels = facts[places, 3]
        return places[(pixels == 0) | (pixels > max_pixels)]

    unknown = np.arange(len(names))
    if len(unknown) >= WORTH:
        _in_threads(examine, unknown)
        unknown = recall(unknown)
    if len(unknown) >= WORTH:
        try:
            with index_lock(root):
                unknown = recall(unknown)  # another process may have opened them by now
                _in_threads(open_files, unknown)
                unknown = unknown[:0]
                settled = np.flatnonzero((facts[:, 3] > 0) & (facts[:, 2] < now - SETTLED))
                write_index(root, names.subset(settled), facts[settled])
        except OSError as error:
            log.warning("without an index, the next start opens all %d files again: %s", len(names), error)
    _in_threads(open_files, unknown)
    return Headers(facts[:, 4] == 1, dict(sorted(errors.items())))


def _state(name: str) -> tuple[int, int, int]:
    """Return size, mtime and ctime of a file; zeros if it cannot be examined."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns % MOST, found.st_ctime_ns % MOST


def _header(name: str, max_pixels: int) -> ImageHeader | InputError:
    try:
        return read_header(Path(name), max_pixels)
    except InputError as error:
        return error


def _in_threads(work: Callable[[Int64[np.ndarray, "M"]], None], places: Int64[np.ndarray, "N"]) -> None:
    with thread_pool() as pool:
        list(pool.map(work, [places[i : i + CHUNK] for i in range(0, len(places), CHUNK)]))
