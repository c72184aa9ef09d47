"""The trials of a study: which of them count, and how they end."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

# user attributes of a trial
REASON = "reason"  # why it failed; a trial whose process died has none
RETRY_OF = "retry_of"  # the number of the orphan whose parameters it has
SAME_AS = "same_as"  # the number of the trial with the same parameters whose outcome it has
LEFT_OUT = "left_out"  # it was asked for by mistake, and does not count


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


def finish(
    study: optuna.Study,
    trial: Trial | FrozenTrial,
    state: TrialState,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> bool:
    """Tell how a trial ended; return False if another process has taken it for an orphan and told already.

    Args:
        attributes: of a Trial; those of a FrozenTrial, which is another process's, cannot be written.
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
