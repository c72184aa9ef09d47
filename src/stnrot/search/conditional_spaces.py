"""Parameters that are searched where others have certain values: what a list of ranges cannot say."""

from omegaconf import DictConfig
from optuna.trial import Trial


def hypotheses(config: DictConfig, trial: Trial) -> None:
    """Suggest `model.hypotheses` where the encoder offers several; a regressor has one."""
    encoder = trial.params.get("model/encoder", config.hydra.runtime.choices["model/encoder"])
    if encoder == "polar":
        trial.suggest_int("model.hypotheses", 1, 5)
