"""The trials of a study: what they store, which of them count, and how they finish."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

# user attributes of a trial
WORKER = "worker"  # its last heartbeat: the machine, the process, and how long the trial has been running
REASON = "reason"  # why it failed; missing if its process died
RETRY_OF = "retry_of"  # number of the interrupted trial whose parameters it retries
SAME_AS = "same_as"  # number of the earlier trial with the same parameters whose outcome it copies
LEFT_OUT = "left_out"  # why it does not count


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count towards `n_trials`, by number.

    A retry replaces the stale trial in the count. Two processes that share no lock may both enqueue a retry: then only
    the first counts. No retry counts if the trial has completed or was pruned after all.
    """
    done = {trial.number for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)}
    retried: set[int] = set()
    kept = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        stale = trial.user_attrs.get(RETRY_OF)
        if LEFT_OUT in trial.user_attrs or stale in retried or stale in done:
            continue
        if stale is not None:
            retried.add(stale)
        kept.append(trial)
    return [trial for trial in kept if trial.number not in retried]


def failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the failed trials among those that count."""
    return [trial for trial in counted(trials) if trial.state == TrialState.FAIL]


def finish(
    study: optuna.Study,
    trial: Trial | FrozenTrial,
    state: TrialState,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> bool:
    """Record the outcome of a trial; return False if another process took the trial for stale and finished it already.

    Args:
        study: the study of the trial.
        trial: a Trial of this process, or a FrozenTrial of another process.
        state: COMPLETE, PRUNED or FAIL.
        value: the metric of a completed trial.
        attributes: user attributes to store. Only those of a Trial can be written.
    """
    try:
        for name, attribute in (attributes or {}).items():
            trial.set_user_attr(name, attribute)
        study.tell(trial.number, value, state)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        if study.trials[trial.number].state.is_finished():
            return False
        raise
    return True
