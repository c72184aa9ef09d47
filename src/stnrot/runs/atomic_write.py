"""Replace a file atomically: own code, because the library for it, atomicwrites, is retired."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 180  # bytes; file systems allow 255, of which the end of the name takes some
HOST = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)[:40]
TEMPORARY = re.compile(r"\..+\.stnrot-(?P<host>[\w-]*)-(?P<process>\d+)", re.DOTALL)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; if the block succeeds, the new file takes the place of `target`.

    The new file is flushed to the disk before the rename, and the folder after it. After a kill, a power cut or with a
    full disk, `target` is either the whole old file or the whole new one. A kill leaves the new file, see `sweep`.
    """
    name = os.fsdecode(os.fsencode(target.name)[:LONGEST])
    new = target.with_name(f".{name}.stnrot-{HOST}-{os.getpid()}")
    try:
        yield new
        _flush(new)
        new.replace(target)
        _flush(target.parent)
    finally:
        new.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what `atomic_write` has left below a folder when its process was killed.

    A file of another host is kept, and one whose process still runs. A process calls this before it writes there: a
    file with its own number is that of a process before it. Containers give the same numbers again.
    """
    for path in folder.rglob(".*"):
        found = TEMPORARY.fullmatch(path.name)
        if found and found["host"] == HOST and not _runs(int(found["process"])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
