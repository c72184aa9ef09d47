"""Only regular files are read: a named pipe waits for a writer, and a device such as /dev/zero has no end.

A path may be a link, also one that leads back to itself. The holes of a sparse file take memory, but no room on a disk.
"""

import os
import stat
from pathlib import Path

from stnrot.errors import InputError

OTHER_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)

MOST_HOLES = 2**28  # bytes of a file that are not on the disk; they are read as zeros


def check_regular(path: str | Path) -> None:
    """Raise InputError if a path, or the file that it links to, exists and is not a regular file, or is a sparse one.

    Call it before the file is opened: opening a named pipe can wait for ever. A path that cannot be examined raises
    nothing here. Its error comes when it is opened.
    """
    try:
        found = os.stat(path)
        sparse = stat.S_ISREG(found.st_mode) and found.st_size > MOST_HOLES and _holes(path) > MOST_HOLES
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return
    kinds = [kind for is_kind, kind in OTHER_KINDS if is_kind(found.st_mode)] + ["a sparse file"] * sparse
    if kinds:
        raise InputError(
            f"{path}: expected a regular file, got {kinds[0]}; give the path of a file that is saved on disk"
        )


def _holes(path: str | Path) -> int:
    """Return how many bytes of a file are holes, or a number above `MOST_HOLES`; 0 if the system cannot tell."""
    if not hasattr(os, "SEEK_HOLE"):
        return 0
    found, at = 0, 0
    opened = os.open(path, os.O_RDONLY)
    try:
        end = os.lseek(opened, 0, os.SEEK_END)
        while at < end and found <= MOST_HOLES:
            hole = os.lseek(opened, at, os.SEEK_HOLE)
            try:
                at = os.lseek(opened, hole, os.SEEK_DATA)
            except OSError:  # no data up to the end
                at = end
            found += at - hole
    finally:
        os.close(opened)
    return found


def real(path: str | Path) -> Path:
    """Return the absolute path behind all links.

    A link that leads back to itself stays: its error comes when it is opened. Before Python 3.13 `Path.resolve` raises
    an error for it that is no OSError.
    """
    return Path(os.path.realpath(path))
