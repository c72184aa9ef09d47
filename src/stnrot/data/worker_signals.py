"""Signals in the processes that fetch batches: they outlive the stop of their job, which still needs a batch."""

import signal
from types import FrameType

WAIT = 30  # seconds


def outlive_stop(worker: int) -> None:
    """Ignore Ctrl-C, and end only some time after SIGTERM; called in each worker.

    A terminal sends Ctrl-C to all processes of a job, and SLURM SIGTERM. A worker that ended at once would break the
    job before it has saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(WAIT)  # whose signal ends the process
