"""End a job of several processes in one line if one of them is killed, instead of waiting for it without end.

On each machine the first process watches those that it has started, and each of them watches the first. What srun or
torchrun has started is watched by srun or torchrun; there, a process reports only that it has lost the connection to
another.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from stnrot.errors import InputError, reason_of
from stnrot.printed import printable
from stnrot.runs.resume import to_resume

WATCHED = "STNROT_FIRST_PROCESS"  # variable of the environment: process id of the first process of this machine
GRACE = 10.0  # seconds in which a process may end by itself, with a message of its own
SIGNS = (
    *("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "TCPStore"),
    *("ncclRemoteError", "NCCL communicator was aborted"),
)


def watch_others(others: Sequence[Popen[bytes]], first: int, folder: Path, stop: threading.Event) -> None:
    """End this process, and all others that it has started, as soon as one of them fails.

    Args:
        others: the processes, in the order of their ranks.
        first: rank of the first of `others`.
        folder: of the run.
        stop: ends the watch, before this process kills the others itself.
    """

    def watch() -> None:
        while not stop.wait(1):
            codes = [each.poll() for each in others]
            if failed := [(first + number, code) for number, code in enumerate(codes) if code]:
                rank, code = next((each for each in failed if each[1] < 0), failed[0])
                if code > 0:  # it has said why, and perhaps this one fails for the same reason
                    time.sleep(GRACE)
                for each in others:
                    each.kill()
                _end(f"process {rank} of this job {_cause(code)}", folder)
            if None not in codes:
                return

    _start(watch)


def watch_first(folder: Path, rank: int) -> None:
    """End this process soon after the one that has started it, if another has.

    Args:
        folder: of the run.
        rank: of that process, the first of this machine.
    """
    first = int(os.environ.get(WATCHED, os.getpid()))
    if first == os.getpid():
        return

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1)
        time.sleep(GRACE)  # after a complete job, both end at about the same time
        if os.environ.get("LOCAL_RANK") != "1":  # one line is enough
            os._exit(1)
        _end(f"process {rank} of this job was killed or has ended with an error", folder)

    _start(watch)


@contextmanager
def lost_connections() -> Iterator[None]:
    """Turn the error of a process that has lost the connection to another into one line.

    Raises:
        InputError: in the place of that error. If this process is watched or watches, it ends meanwhile.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
        if WATCHED in os.environ:
            time.sleep(2 * GRACE)
        raise InputError(
            f"the connection to another process of this job was lost ({reason_of(error)}): see which one has ended, "
            "and resume the run"
        ) from error


def _start(watch: Callable[[], None]) -> None:
    threading.Thread(target=watch, daemon=True, name="lost-process").start()


def _cause(code: int) -> str:
    if code > 0:
        return f"has failed with status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return f"was killed by {name}"


def _end(what: str, folder: Path) -> None:
    """Print one line, and end this process even if it waits for another inside a library."""
    saved = (folder / "checkpoints" / "last.ckpt").is_file()
    resume = f"; to resume: {to_resume(folder)}" if saved else ""
    print(printable(f"error: {what}, so the job ends{resume}"), file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
