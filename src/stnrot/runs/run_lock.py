"""One job at a time in the folder of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stnrot.errors import InputError
from stnrot.runs.stop_signals import is_first_process

NAME = ".running.lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for the job of this process. The lock of a killed process is free.

    Raises:
        InputError: if another job works there.
    """
    if not is_first_process():
        yield
        return
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another job writes to {folder}: expected a folder of its own for each job; wait until that job ends, or "
            "choose another hydra.run.dir"
        ) from error
    try:
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)
        lock.release()
