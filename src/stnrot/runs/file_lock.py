"""A lock file that a process holds while it writes beside it. The lock of a killed process is free.

That holds also while processes that it has started live on.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from stnrot.errors import InputError

log = logging.getLogger(__name__)


@contextmanager
def held(path: Path, refusal: str) -> Iterator[Callable[[], bool]]:
    """Hold a lock file, then remove it. Raise InputError with the text `refusal` if another process has it.

    Yields a function that tells whether the file is still there. Its folder may have been deleted, and perhaps made
    again by a process that holds a lock file of the same name.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(refusal) from error
    own = path.stat()

    def stays() -> bool:
        try:
            return os.path.samestat(path.stat(), own)
        except OSError:
            return False

    try:
        yield stays
    finally:
        with suppress(OSError):  # a disk that cannot be written to any more
            if stays():
                path.unlink()
        lock.release()


@contextmanager
def in_turn(path: Path, wait: str) -> Iterator[None]:
    """Hold a lock file, which stays. If another process has it, log the text `wait`, and wait."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(wait)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
