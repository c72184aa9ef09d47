"""Trials that have lost their process: their parameters are asked again."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from stnrot.search.signs_of_life import is_orphan
from stnrot.search.trials import RETRY_OF, finish

ATTEMPTS = 3  # at a trial whose process dies: by then it is the trial that kills it


def ask_orphans_again(study: optuna.Study) -> None:
    """Fail the running trials whose process is gone, and enqueue their parameters, two times at most."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_orphan(trial):
            continue
        if len(_attempts(study, trial)) < ATTEMPTS:
            ask_again(study, trial)
        else:
            finish(study, trial, TrialState.FAIL)


def ask_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue the parameters of a trial that was interrupted, once, then fail it.

    In this order: interrupted in between, it is an orphan still, and its parameters are not lost.
    """
    if all(other.user_attrs.get(RETRY_OF) != trial.number for other in study.get_trials(deepcopy=False)):
        # of all attempts, as the last may have been interrupted before it took its parameters up
        asked = {name: value for attempt in _attempts(study, trial) for name, value in attempt.params.items()}
        study.enqueue_trial(asked, user_attrs={RETRY_OF: trial.number})
    finish(study, trial, TrialState.FAIL)


def _attempts(study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials that were given these parameters, this one last."""
    before = trial.user_attrs.get(RETRY_OF)
    return [trial] if before is None else [*_attempts(study, study.trials[before]), trial]
