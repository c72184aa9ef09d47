"""Stop a job at SIGTERM or Ctrl-C where nothing is under way, and exit with 143 or 130."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")  # variables of the environment


class Stopped(BaseException):
    """The job stops because a signal asked for it. No `except Exception` may catch it."""


@dataclass
class StopRequest:
    """The signal that asked to stop, if one did.

    `waits` is true while a loop looks at `signal` again and again, and stops by itself. At any other time, and at a
    second signal, the handler stops the job at once, wherever it is.
    """

    signal: int | None = None
    waits: bool = False
    requeue_signal: int | None = None
    active: bool = False  # in a job or search that `stops_at_signals` wraps

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; Python calls this method."""
        again, self.signal = self.signal is not None, self.signal or number
        if again or not self.waits:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise Stopped if a signal has asked for it, because its KeyboardInterrupt may have been lost.

        Python only prints what a weakref callback or a `__del__` raises. A garbage collection often ends with such
        functions, and the first of them handles a signal that has arrived during the collection. A library may also
        raise an error of its own in the place of the KeyboardInterrupt.
        """
        if self.signal is not None:
            raise Stopped

    @property
    def requeues(self) -> bool:
        """Whether SLURM is about to stop the job, which shall run again."""
        return self.signal is not None and self.signal == self.requeue_signal

    @property
    def status(self) -> int:
        """Exit status of the job: 130 for Ctrl-C, 143 for every other signal."""
        return 130 if self.signal == signal.SIGINT else 143


REQUEST = StopRequest()  # of this process


def install_handlers() -> None:
    """Let the handler receive the signals; Lightning replaces it at the start of each of its loops."""
    if REQUEST.active and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, REQUEST.requeue_signal):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, REQUEST.handle)


def is_first_process() -> bool:
    """Return whether this is the first process of its job, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def forget_rank() -> None:
    """Let this process count as the first one: it has a job of its own, beside those of others.

    srun and torchrun number them like the processes of one job, and Lightning reads that number when it is imported.
    """
    os.environ.update({name: "0" for name in RANKS if name in os.environ})


@contextmanager
def stops_at_signals(requeue_signal: int | None = None, said: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Exit with 143 at SIGTERM and with 130 at Ctrl-C, also if Lightning has its own idea of the status.

    Args:
        requeue_signal: by which SLURM announces that it will stop the job.
        said: called before the exit.
    """
    REQUEST.signal, REQUEST.waits, REQUEST.requeue_signal, REQUEST.active = None, False, requeue_signal, True
    watched = [number for number in (signal.SIGINT, signal.SIGTERM, requeue_signal) if number is not None]
    before = {number: signal.getsignal(number) for number in watched}
    install_handlers()
    try:
        yield
        REQUEST.check()
    except (Stopped, KeyboardInterrupt, SystemExit) as stopped:
        if REQUEST.signal is None and not isinstance(stopped, Stopped):  # which may come from another process
            raise
        said()
        # Lightning kills all processes of a job if one that it has started fails before the first has ended
        raise SystemExit(REQUEST.status if is_first_process() else 0) from stopped
    finally:
        REQUEST.signal, REQUEST.waits, REQUEST.active = None, False, False  # for another job of this process
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
