"""Replace a file atomically: own code, because the library for it, atomicwrites, is retired."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 200  # bytes; file systems allow 255, of which the number of a process takes some


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; if the block succeeds, the new file takes the place of `target`.

    The new file is flushed to the disk before the rename, and the folder after it. After a kill, a power cut or with a
    full disk, `target` is either the whole old file or the whole new one.
    """
    name = os.fsdecode(os.fsencode(target.name)[:LONGEST])
    new = target.with_name(f".{name}.{os.getpid()}")
    try:
        yield new
        _flush(new)
        new.replace(target)
        _flush(target.parent)
    finally:
        new.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
