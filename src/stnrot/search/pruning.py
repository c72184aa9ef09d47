"""The side of a search that a job sees: its trial, which may end it early."""

from optuna import load_study
from optuna.trial import Trial
from optuna_integration import PyTorchLightningPruningCallback

from stnrot.search.storage import open_storage


def pruning_callback(place: str, study_name: str, number: int, metric: str) -> PyTorchLightningPruningCallback:
    """Return a callback that reports `metric` after every validation and raises `TrialPruned` in a bad trial."""
    study = load_study(study_name=study_name, storage=open_storage(place))
    trial = study.get_trials(deepcopy=False)[number]
    # a job may be another process than the one that asked, and Optuna has no public way from a number to the Trial that
    # reports; the constructor is public, the identifier is not
    return PyTorchLightningPruningCallback(Trial(study, trial._trial_id), metric)
