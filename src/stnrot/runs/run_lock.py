"""One job at a time in the folder of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stnrot.runs.file_lock import held
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
    refusal = (
        f"another job writes to {folder}: expected a folder of its own for each job; wait until that job ends, or "
        "choose another hydra.run.dir"
    )
    with held(folder / NAME, refusal):
        yield
