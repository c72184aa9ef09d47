"""Pruning: the callback that reports a trial's metric from inside its job."""

from optuna import load_study
from optuna.trial import Trial
from optuna_integration import PyTorchLightningPruningCallback

from stnrot.search.storage import open_storage, when_reachable


def pruning_callback(location: str, study_name: str, number: int, metric: str) -> PyTorchLightningPruningCallback:
    """Return a callback that reports `metric` after every validation and raises `TrialPruned` in a bad trial.

    Args:
        location: URL of the database or path of the journal file.
        study_name: name of the study.
        number: number of the trial.
        metric: name of the metric, such as val/nll.
    """
    study = when_reachable(location, lambda: load_study(study_name=study_name, storage=open_storage(location)))
    trial = study.get_trials(deepcopy=False)[number]
    # A job may run in another process than `study.ask()`, and only a Trial can report. Optuna has no public way from a
    # number to a Trial: the constructor is public, the identifier is not.
    return PyTorchLightningPruningCallback(Trial(study, trial._trial_id), metric)
