"""A lock file that a process holds while it writes beside it. The lock of a killed process is free."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stnrot.errors import InputError


@contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, then remove it. Raise InputError with the text `refusal` if another process has it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(refusal) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
