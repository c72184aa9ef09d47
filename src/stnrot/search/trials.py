"""The trials of a study: which of them count, which lost their process, and signs of life of those at work."""

import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

# user attributes of a trial
WORKER = "worker"  # the process that has it, and when it last gave a sign of life
REASON = "reason"  # why it failed
RETRY_OF = "retry_of"  # the number of the orphan whose parameters it has
SAME_AS = "same_as"  # the number of the trial with the same parameters whose outcome it has
LEFT_OUT = "left_out"  # it was asked for by mistake, and does not count

BEAT = 15.0  # seconds between two signs of life
ATTEMPTS = 3  # at a trial whose process dies: by then it is the trial that kills it
GRACE = 120.0  # seconds without one after which a process on another machine is taken for dead


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return, in the order of their numbers, the trials that count towards `n_trials`.

    An orphan gives its place up to the trial that asks its parameters again. Processes that share no lock may both ask
    them; then the first counts.
    """
    done = {trial.number for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)}
    retried: set[int] = set()
    kept = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        orphan = trial.user_attrs.get(RETRY_OF)
        if LEFT_OUT in trial.user_attrs or orphan in retried or orphan in done:
            continue
        if orphan is not None:
            retried.add(orphan)
        kept.append(trial)
    return [trial for trial in kept if trial.number not in retried]


def failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials whose job failed."""
    return [trial for trial in counted(trials) if trial.state == TrialState.FAIL]


def ask_orphans_again(study: optuna.Study) -> None:
    """Fail the running trials whose process is gone, and enqueue their parameters, two times at most."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_orphan(trial):
            continue
        if _attempts(study, trial) < ATTEMPTS:
            ask_again(study, trial)
        else:
            finish(study, trial, TrialState.FAIL, {REASON: f"interrupted {ATTEMPTS} times"})


def _attempts(study: optuna.Study, trial: FrozenTrial) -> int:
    """Return how often the parameters were tried, this time included."""
    before = trial.user_attrs.get(RETRY_OF)
    return 1 if before is None else 1 + _attempts(study, study.trials[before])


def ask_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue the parameters of a trial that was interrupted, once, then fail it.

    In this order: interrupted in between, it is an orphan still, and its parameters are not lost.
    """
    if all(other.user_attrs.get(RETRY_OF) != trial.number for other in study.get_trials(deepcopy=False)):
        asked = trial.system_attrs.get("fixed_params", {}) | trial.params
        study.enqueue_trial(asked, user_attrs={RETRY_OF: trial.number})
    finish(study, trial, TrialState.FAIL, {REASON: "interrupted; asked again"})


def finish(
    study: optuna.Study,
    trial: FrozenTrial | Trial,
    state: TrialState,
    attributes: dict[str, Any],
    value: float | None = None,
) -> bool:
    """Tell how a trial ended; return False if another process has taken it for an orphan and told already."""
    try:
        for name, attribute in attributes.items():
            Trial(study, trial._trial_id).set_user_attr(name, attribute)
        study.tell(trial.number, value, state)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        if study.trials[trial.number].state.is_finished():
            return False
        raise
    return True


def is_orphan(trial: FrozenTrial) -> bool:
    """Say whether the process that has the trial is gone: by its number on this machine, else by its silence."""
    worker = trial.user_attrs.get(WORKER)
    if worker is None:  # the process had no time to sign
        return trial.datetime_start is not None and time.time() - trial.datetime_start.timestamp() > GRACE
    if worker["machine"] == _machine() and not _exists(worker["process"]):
        return True
    return time.time() - worker["alive"] > GRACE


def _machine() -> str:
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


class AtWork:
    """The trials that this process has; they show signs of life until the `with` ends.

    Those that are left when it ends by an interrupt are asked again.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study, self.trials = study, dict[int, Trial]()
        self._ended = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "AtWork":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        for number in self.trials:
            left = self.study.trials[number]
            if left.state == TrialState.RUNNING:
                ask_again(self.study, left)

    def take(self, trial: Trial) -> None:
        """Sign the trial."""
        self._sign(trial)
        self.trials[trial.number] = trial

    def end(
        self, trial: Trial, state: TrialState, attributes: dict[str, Any] | None = None, value: float | None = None
    ) -> bool:
        """Tell how it ended, as `finish` does."""
        told = finish(self.study, trial, state, attributes or {}, value)
        self.trials.pop(trial.number)
        return told

    def _sign(self, trial: Trial) -> None:
        trial.set_user_attr(WORKER, {"machine": _machine(), "process": os.getpid(), "alive": time.time()})

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for trial in list(self.trials.values()):
                with suppress(optuna.exceptions.OptunaError, OSError):  # it has finished, or the next time will do
                    self._sign(trial)
