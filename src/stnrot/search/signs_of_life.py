"""Signs of life of the process that has a trial, in a user attribute of the trial."""

import os
import platform
import time
from pathlib import Path

from optuna.trial import FrozenTrial, Trial

WORKER = "worker"  # the attribute
BEAT = 15.0  # seconds between two signs
GRACE = 120.0  # seconds without one after which a process on another machine is taken for dead


def beat(trial: Trial) -> None:
    """Say that this process has the trial, and lives."""
    trial.set_user_attr(WORKER, {"machine": machine(), "process": os.getpid(), "alive": time.time()})


def is_stale(trial: FrozenTrial) -> bool:
    """Say whether the process that has the trial is gone: by its number on this machine, else by its silence."""
    worker = trial.user_attrs.get(WORKER)
    if worker is None:  # the process had no time to sign
        return trial.datetime_start is not None and time.time() - trial.datetime_start.timestamp() > GRACE
    if worker["machine"] == machine() and not _exists(worker["process"]):
        return True
    return time.time() - worker["alive"] > GRACE


def machine() -> str:
    """Name the machine, and on Linux also what process numbers are unique in: a container may have its own."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()} {space.stat().st_ino}" if space.exists() else platform.node()


def _exists(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is a signal
        return True
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's, or this is no Linux
        return True
    return state != "Z"  # killed, and nobody has asked how it ended
