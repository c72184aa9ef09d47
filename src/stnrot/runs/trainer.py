"""Build the trainer of a job, and switch off what its configuration switches off."""

from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import (
    Checkpoint,
    LearningRateMonitor,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from stnrot.errors import InputError
from stnrot.runs.checkpoints import AtomicCheckpointIO
from stnrot.runs.processes.launched import launched
from stnrot.runs.processes.launcher import watch_processes


def switched_on(cfg: DictConfig, group: str) -> list[Any]:
    """Build the callbacks or the loggers of a configuration.

    Args:
        group: `callbacks` or `logger`. The section may be missing or null, and so may each of its entries.
    """
    return [instantiate(entry) for entry in (cfg.get(group) or {}).values() if entry is not None]


def build_trainer(cfg: DictConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """Build the trainer.

    Callbacks that need what is switched off are left out: checkpoints with `trainer.enable_checkpointing=false`, the
    progress bar with `trainer.enable_progress_bar=false`, the monitor of the learning rate without a logger. Lightning
    would refuse them. Without a callback for checkpoints or progress, Lightning would add one of its own; it adds none
    here.

    Args:
        cfg: the configuration of the job. `check_trainer` has checked the section `trainer`.
        callbacks: all callbacks of the job.

    Raises:
        InputError: if the job spans several machines and no launcher has started its processes, or not as many as the
            section asks for; or if a callback does not work with a sharded model.
    """
    launched(cfg.trainer, beside_others=True)  # a single job has made the full check before
    loggers = switched_on(cfg, "logger")
    enabled: dict[str, bool] = {}
    for option, kind in (("enable_checkpointing", Checkpoint), ("enable_progress_bar", ProgressBar)):
        given = cfg.trainer.get(option)
        if given is False:
            callbacks = [each for each in callbacks if not isinstance(each, kind)]
        enabled[option] = any(isinstance(each, kind) for each in callbacks) if given is None else given
    if not loggers:
        callbacks = [each for each in callbacks if not isinstance(each, LearningRateMonitor)]
    strategy: dict[str, Any] = {}
    if cfg.trainer.get("strategy") == "fsdp":
        for each in callbacks:
            if isinstance(each, WeightAveraging | StochasticWeightAveraging):
                raise InputError(
                    f"trainer.strategy=fsdp: {type(each).__name__} needs the whole model in each process, expected "
                    "trainer.strategy=ddp, or a job without this callback"
                )
        from stnrot.runs.processes.sharding import ShardingStrategy  # takes a second

        strategy["strategy"] = ShardingStrategy()
    plugins = instantiate(cfg.trainer.get("plugins"), _convert_="all") or []
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        _convert_="all",  # Lightning does not take the lists and dicts of OmegaConf
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *(plugins if isinstance(plugins, list) else [plugins])],
        **enabled,
        **strategy,
    )
    watch_processes(trainer, Path(cfg.output_dir))
    return trainer


def has_tensorboard(trainer: L.Trainer) -> bool:
    """Return whether the job writes a log for TensorBoard."""
    return any(isinstance(each, TensorBoardLogger) for each in trainer.loggers)
