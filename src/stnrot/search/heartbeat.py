"""Heartbeats of running trials, and retries of stale ones.

A trial is stale if it is running but its process is dead. Clocks of different machines are never compared: a reader
measures by its own clock how long a heartbeat stays the same. Optuna's own heartbeat works with SQL storages and
`Study.optimize` only, notices a dead process on the same machine only after the grace period, and marks the trial as
failed before it enqueues the retry: a crash between the two loses the parameters.
"""

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from stnrot.errors import InputError
from stnrot.search.reconnect import last_failure, no_waiting
from stnrot.search.trials import REASON, RETRY_OF, WORKER, finish

INTERVAL = 15.0  # seconds between two heartbeats
GRACE_PERIOD = 120.0  # seconds without a new heartbeat after which a process counts as dead
UNREACHABLE = (optuna.exceptions.OptunaError, SQLAlchemyError, InputError, OSError)  # errors of the storage
MAX_DEATHS = 3  # after so many dead processes with the same parameters, these are taken for the cause


class Heartbeat:
    """Send heartbeats for the running trials of this process until the context exits.

    Trials that are still running then, because of an interrupt or an error, are enqueued again.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study, self.trials = study, dict[int, Trial]()
        self._start = dict[int, float]()  # of each trial, on the monotonic clock
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(*UNREACHABLE):  # other processes will find these trials stale
            for number, trial in self.trials.items():
                if self.study.trials[number].state == TrialState.RUNNING:
                    enqueue_retry(self.study, trial, {REASON: "interrupted"})

    def register(self, trial: Trial) -> None:
        """Send the first heartbeat of a trial, and keep sending."""
        self._start[trial.number] = time.monotonic()
        beat(trial, 0.0)
        self.trials[trial.number] = trial

    def finish(
        self, trial: Trial, state: TrialState, value: float | None = None, attributes: Mapping[str, Any] | None = None
    ) -> bool:
        """Record the outcome of a trial, as `trials.finish` does, and end its heartbeats."""
        recorded = finish(self.study, trial, state, value, attributes)
        self.trials.pop(trial.number)
        return recorded

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            for trial in list(self.trials.values()):
                with suppress(*UNREACHABLE), no_waiting():  # the trial has finished, or the next beat works
                    beat(trial, time.monotonic() - self._start[trial.number])


def beat(trial: Trial, seconds: float) -> None:
    """Write into the trial that this process runs it.

    Args:
        trial: a running trial of this process.
        seconds: how long the trial has been running. Every heartbeat has a larger value than the one before.
    """
    # `alive` is for people and for earlier versions: the clock of this machine
    worker = {"machine": machine(), "process": os.getpid(), "alive": time.time(), "seconds": seconds}
    trial.set_user_attr(WORKER, worker)


def is_dead(worker: Mapping[str, Any] | None) -> bool:
    """Return whether a process has ended, from its last heartbeat. Of a process on another machine this is unknown."""
    return worker is not None and worker["machine"] == machine() and not _process_exists(worker["process"])


def machine() -> str:
    """Name the machine. On Linux the name includes the PID namespace, because a container may have its own."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {namespace.stat().st_ino}" if namespace.exists() else platform.node()


def _process_exists(process: int) -> bool:
    if os.name != "posix":  # on Windows os.kill(process, 0) sends Ctrl-C
        return True
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user, or there is no /proc
        return True
    return state != "Z"  # a zombie is dead; its parent has not waited for it


class StaleTrials:
    """Find stale trials by repeated readings of a study, and retry them.

    A process is dead if its heartbeat stays the same for `GRACE_PERIOD`, counted from the first reading of this
    heartbeat by this process. A process on this machine is also dead if there is no process of its number.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._read: dict[int, tuple[Any, float]] = {}  # of each running trial the last heartbeat, and when it was new

    def find(self) -> list[FrozenTrial]:
        """Read the running trials; return the stale ones."""
        begin = time.monotonic()
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        beats = {trial.number: trial.user_attrs.get(WORKER) for trial in running}  # None before the first heartbeat
        end = time.monotonic()  # reading may take long: the silence lasts at least from this `end` to the next `begin`
        reachable = last_failure()  # while the storage is out of reach, no heartbeat arrives
        before = self._read
        self._read = {
            number: before[number] if number in before and before[number][0] == worker else (worker, end)
            for number, worker in beats.items()
        }
        return [
            trial
            for trial in running
            if is_dead(beats[trial.number]) or begin - max(self._read[trial.number][1], reachable) > GRACE_PERIOD
        ]

    def retry(self) -> None:
        """Mark stale trials as failed; enqueue their parameters, unless `MAX_DEATHS` processes have died of these."""
        for trial in self.find():
            if sum(REASON not in attempt.user_attrs for attempt in _attempts(self.study, trial)) < MAX_DEATHS:
                enqueue_retry(self.study, trial)
            else:
                finish(self.study, trial, TrialState.FAIL)


def enqueue_retry(study: optuna.Study, trial: Trial | FrozenTrial, attributes: Mapping[str, Any] | None = None) -> None:
    """Enqueue the parameters of an interrupted trial, once, then mark the trial as failed, as `trials.finish` does.

    The order matters: after a crash between the two steps the trial is still stale, and its parameters are enqueued.
    """
    if all(other.user_attrs.get(RETRY_OF) != trial.number for other in study.get_trials(deepcopy=False)):
        # collected from all attempts: the last one may have been interrupted before it drew its parameters
        params = {name: value for attempt in _attempts(study, trial) for name, value in attempt.params.items()}
        study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number})
    finish(study, trial, TrialState.FAIL, attributes=attributes)


def _attempts(study: optuna.Study, trial: Trial | FrozenTrial) -> list[Trial | FrozenTrial]:
    """Return all trials with these enqueued parameters, oldest first, up to this one."""
    earlier = trial.user_attrs.get(RETRY_OF)
    return [trial] if earlier is None else [*_attempts(study, study.trials[earlier]), trial]
