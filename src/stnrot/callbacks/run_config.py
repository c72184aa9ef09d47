"""Save the configuration of a run in its checkpoints, and show it in TensorBoard."""

import math
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf

from stnrot.runs.stop_signals import Stopped


class RunConfig(L.Callback):
    """Save the resolved configuration in every checkpoint; show it in TensorBoard's tabs TEXT and HPARAMS.

    Args:
        config: whole configuration of the job, as plain data. `rebuild` needs its sections `model` and `task`.
        choices: chosen option of each group, such as model=rot_stn.
    """

    def __init__(self, config: dict[str, Any], choices: dict[str, str]) -> None:
        self.config, self.choices = config, choices

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration and the version of the package to the checkpoint."""
        checkpoint |= {"config": self.config, "stnrot": version("stnrot")}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the configuration as text."""
        text = "    " + OmegaConf.to_yaml(OmegaConf.create(self.config)).replace("\n", "\n    ")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and not getattr(logger, "continues", False):
                logger.experiment.add_text("config", text)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the hyperparameters and the metrics of the test."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._show(trainer, {name: value for name, value in metrics.items() if name.startswith("test/")})

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Show the hyperparameters of a run that failed or was pruned by its search; it has no metrics of the test."""
        if not isinstance(exception, Stopped):  # which resumes, or is retried by its search
            with suppress(OSError, ValueError):  # report the error of the job, not a later one
                self._show(trainer, {})

    def _show(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        monitored = self.config["monitor"]["metric"]
        best: Any = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is None:
            best = trainer.callback_metrics.get(monitored, math.nan)  # TensorBoard shows no run without a metric
        metrics = metrics | {f"best/{monitored}": float(best)}
        hparams = {"seed": self.config["seed"]} | self.choices
        for part in ("data", "model", "task", "trainer"):
            hparams |= _leaves(self.config[part], part)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(hparams, metrics)


def _leaves(node: Any, path: str) -> dict[str, Any]:
    """Return the numbers, flags and words of the configuration by their dotted names; lists and None are left out."""
    if isinstance(node, dict):
        return {
            name: value
            for key, child in node.items()
            if not key.startswith("_") and key not in ("default_root_dir", "plugins")
            for name, value in _leaves(child, f"{path}.{key}").items()
        }
    return {} if node is None or isinstance(node, list) else {path: node}
