"""Trials that have lost their process: their parameters are asked again."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from stnrot.search.signs_of_life import is_stale
from stnrot.search.trials import REASON, RETRY_OF, finish

DEATHS = 3  # of processes with the same parameters: by then these are what kills them


def retry_stale_trials(study: optuna.Study) -> None:
    """Fail the running trials whose process is gone; enqueue their parameters, unless these have killed enough."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_stale(trial):
            continue
        if sum(REASON not in attempt.user_attrs for attempt in _attempts(study, trial)) < DEATHS:
            enqueue_retry(study, trial)
        else:
            finish(study, trial, TrialState.FAIL)


def enqueue_retry(study: optuna.Study, trial: Trial | FrozenTrial, attributes: Mapping[str, Any] | None = None) -> None:
    """Enqueue the parameters of a trial that was interrupted, once, then fail it, as `finish` does.

    In this order: interrupted in between, it is an orphan still, and its parameters are not lost.
    """
    if all(other.user_attrs.get(RETRY_OF) != trial.number for other in study.get_trials(deepcopy=False)):
        # of all attempts, as the last may have been interrupted before it took its parameters up
        asked = {name: value for attempt in _attempts(study, trial) for name, value in attempt.params.items()}
        study.enqueue_trial(asked, user_attrs={RETRY_OF: trial.number})
    finish(study, trial, TrialState.FAIL, attributes=attributes)


def _attempts(study: optuna.Study, trial: Trial | FrozenTrial) -> list[Trial | FrozenTrial]:
    """Return the trials that were given these parameters, this one last."""
    before = trial.user_attrs.get(RETRY_OF)
    return [trial] if before is None else [*_attempts(study, study.trials[before]), trial]
