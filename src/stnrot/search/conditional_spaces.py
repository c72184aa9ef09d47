"""Conditional search spaces: functions for `hydra.sweeper.custom_search_space`."""

from omegaconf import DictConfig
from optuna.trial import Trial


def hypotheses(config: DictConfig, trial: Trial) -> None:
    """Suggest `model.hypotheses`, 1 to 5, if the encoder is `polar`. A regressing encoder has one hypothesis."""
    encoder = trial.params.get("model/encoder", config.hydra.runtime.choices["model/encoder"])
    if encoder == "polar":
        trial.suggest_int("model.hypotheses", 1, 5)
