"""Build what a training consists of, from the configuration of its job."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stnrot.errors import InputError
from stnrot.runs.atomic_write import sweep
from stnrot.runs.resume import choices_of

if TYPE_CHECKING:
    import lightning as L

    from stnrot.data.datamodule import DataModule

log = logging.getLogger("train")


@dataclass(frozen=True)
class Job:
    """What a training consists of, ready to start.

    Args:
        checkpoint: path of the checkpoint that it continues.
        stands_at: the place at which that checkpoint was saved, see `LastCheckpoint`.
        steps: that it has taken.
        pruning: the callback that ends a trial of a search.
        config: the whole configuration, with its interpolations resolved.
    """

    trainer: "L.Trainer"
    task: "L.LightningModule"
    data: "DataModule"
    checkpoint: str | None
    stands_at: dict[str, Any]
    steps: int
    pruning: Any
    config: dict[str, Any]


def build(cfg: DictConfig, folder: Path, resume: bool) -> Job:
    """Check the configuration, and build the data, the task and the trainer.

    Args:
        cfg: configuration of the job; what the data and the machine decide is filled in.
        folder: of the run.
        resume: continue the run in that folder.

    Raises:
        InputError: if the configuration is not that of a job that can start.
    """
    import torch
    from lightning import seed_everything

    from stnrot.jobs.defaults import choose_defaults
    from stnrot.runs.allowed_targets import without_weights
    from stnrot.runs.checkpoints import read_checkpoint, weights_of
    from stnrot.runs.config_checks import check_folder, check_groups, check_model, check_options, check_processes
    from stnrot.runs.loop_state import KEY
    from stnrot.runs.resumable import steps_taken
    from stnrot.runs.trainer import build_trainer

    check_groups(cfg, needed=("data", "model", "task", "trainer"))
    check_options(cfg)
    if cfg.trial is not None and not in_search(cfg):
        raise InputError(f"trial={cfg.trial}: only a search sets it; expected none, or -m hparams_search=...")
    if cfg.get("resume") is not None:
        raise InputError(f"resume={cfg.resume}: expected it on the command line of a single job, not in a file")
    ckpt_path = cfg.ckpt_path
    if resume:
        last = folder / "checkpoints" / "last.ckpt"
        ckpt_path = str(last) if last.is_file() else ckpt_path  # none before the first epoch: start again
    else:
        check_folder(folder, ckpt_path)
    sweep(folder)
    seed_everything(cfg.seed, workers=True, verbose=False)

    data: DataModule = instantiate(cfg.data, _convert_="all")
    cfg.data_spec = data.spec()
    check_model(cfg)
    choose_defaults(cfg)
    log.info("precision: %s", cfg.trainer.get("precision"))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]

    if not (ckpt_path is None and cfg.start_from is None):
        cfg.model = without_weights(config["model"])
    task: L.LightningModule = instantiate(cfg.task, _convert_="all", model=instantiate(cfg.model))
    task = task.to(memory_format=torch.channels_last)
    if str(cfg.trainer.get("precision")) in ("64-true", "64"):
        task = task.double()  # before Lightning does, which first rounds the weights of a checkpoint to 32 bits
    stands_at: dict[str, Any] = {}
    checkpoint: dict[str, Any] | None = None
    if ckpt_path is not None:
        checkpoint = read_checkpoint(ckpt_path)
        weights_of(checkpoint, task, ckpt_path)  # Lightning loads them; this checks them first
        stands_at = checkpoint.get(KEY) or {}
    elif cfg.start_from is not None:
        task.load_state_dict(weights_of(read_checkpoint(cfg.start_from), task, cfg.start_from))

    callbacks, pruning = _callbacks(cfg, config, choices_of(folder) if resume else chosen_options())
    trainer = build_trainer(cfg, callbacks)
    steps = 0 if checkpoint is None else steps_taken(trainer, checkpoint, ckpt_path)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        check_processes(trainer.world_size, HydraConfig.get().launcher)
    data.check_processes(trainer.world_size)
    if trainer.world_size > 1:
        log_batch(data, trainer)
    return Job(trainer, task, data, ckpt_path, stands_at, steps, pruning, config)


def log_batch(data: "DataModule", trainer: "L.Trainer") -> None:
    """Say how many samples a step of the optimizer sees, and that the processes do not change the learning rate."""
    from stnrot.data.batch_samplers import full_batch
    from stnrot.data.rng import Split

    processes, samples = trainer.world_size, len(data.dataset(Split.TRAIN)) * data.repeats
    size = full_batch(data.batch_size, samples, processes)
    log.info(
        "%d processes, each with %d samples of a batch; a step of the optimizer sees %d samples; the learning rate is "
        "as given, because data.batch_size=%d counts the samples of all processes",
        processes,
        size // processes,
        min(size * trainer.accumulate_grad_batches, samples - samples % size),
        data.batch_size,
    )


def _callbacks(cfg: DictConfig, config: dict[str, Any], choices: dict[str, str]) -> tuple[list[Any], Any]:
    """Return the callbacks of the job, and among them the one that ends a trial of a search, or None."""
    from stnrot.callbacks.last_checkpoint import LastCheckpoint
    from stnrot.callbacks.run_config import RunConfig
    from stnrot.runs.trainer import switched_on

    callbacks = [RunConfig(config, choices), *switched_on(cfg, "callbacks")]
    if cfg.trainer.get("enable_checkpointing") is False:
        callbacks = [each for each in callbacks if not isinstance(each, LastCheckpoint)]
    if cfg.trial is None:
        return callbacks, None
    from stnrot.search.pruning import pruning_callback  # imports Optuna, which takes a second

    search = HydraConfig.get().sweeper
    pruning = pruning_callback(search.storage, search.study_name, cfg.trial, cfg.monitor.metric)
    return [*callbacks, pruning], pruning


def in_search(cfg: DictConfig) -> bool:
    """Return whether the job is a trial of a search."""
    return cfg.trial is not None and "storage" in HydraConfig.get().sweeper


def chosen_options() -> dict[str, str]:
    """Return the choice of each group of the configuration, such as model=rot_stn."""
    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {group: name for group, name in choices.items() if name and not group.startswith("hydra/")}
