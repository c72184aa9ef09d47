"""One job at a time in the folder of a run, which has to stay while the job runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stnrot.errors import InputError
from stnrot.runs.file_lock import held
from stnrot.runs.stop_signals import is_first_process

NAME = ".running.lock"
_stays = dict[Path, Callable[[], bool]]()  # by the folder of each job of this process


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for the job of this process. The lock of a killed process is free.

    Raises:
        InputError: if another job works there, or if the folder was deleted meanwhile.
    """
    if not is_first_process():
        yield
        return
    refusal = (
        f"another job writes to {folder}: expected a folder of its own for each job; wait until that job ends, or "
        "choose another hydra.run.dir"
    )
    with held(folder / NAME, refusal) as stays:
        _stays[folder] = stays
        try:
            yield
        except Exception as error:
            check_folders_stay(error)  # then it has failed for this reason
            raise
        finally:
            del _stays[folder]


def check_folders_stay(error: Exception | None = None) -> None:
    """Raise InputError if the folder of a job of this process was deleted, or replaced by another of that name.

    Otherwise the job would write half a run there, or into the run of another job.
    """
    for folder, stays in _stays.items():
        if not stays():
            raise InputError(
                f"{folder} was deleted, moved or replaced while its job ran: expected a run's folder to stay until the "
                "job has ended; if you have moved it, resume it there with resume=FOLDER, else start again"
            ) from error
