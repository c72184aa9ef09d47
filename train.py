"""Train one model: python train.py model=rot_stn data=rotated_digits trainer=cpu key=value ..."""

import logging
import math
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from stnrot.callbacks.run_config import RunConfig
from stnrot.errors import InputError, check_number
from stnrot.runs.checkpoints import AtomicCheckpointIO, check_fits, read_checkpoint
from stnrot.runs.command_line import check_groups, check_processes, one_line, one_line_errors, quiet_libraries
from stnrot.runs.precision import auto_precision

log = logging.getLogger("train")


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float:
    """Run one job; Hydra has composed its configuration and made its folder."""
    quiet_libraries()  # also in a process that a launcher has started
    if in_search(cfg):
        return train(cfg)  # the search records what goes wrong
    with one_line_errors():
        try:
            return train(cfg)
        except Exception as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                raise
            line = one_line(error)
            log.error("this job failed, the sweep goes on: %s", line or error, exc_info=line is None)
            return math.nan


def train(cfg: DictConfig) -> float:
    """Fit, test the best checkpoint, and return what it was chosen by: its metric of the validation."""
    check_groups(cfg)
    if cfg.trial is not None and not in_search(cfg):
        raise InputError(f"trial={cfg.trial}: a search numbers its jobs by it; expected none, or -m hparams_search=...")
    check_number("seed", cfg.seed, 0, 2**32 - 1)
    check_number("trainer.max_epochs", cfg.trainer.max_epochs, 1)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    folder = Path(cfg.output_dir)
    check_folder(folder, cfg.ckpt_path)

    data: Any = instantiate(cfg.data, _convert_="all")  # a LightningDataModule that knows its `spec`
    cfg.data_spec = data.spec()
    check_task(cfg)
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = auto_precision(cfg.trainer.accelerator)
    if cfg.trainer.precision == "16-true":
        raise InputError("trainer.precision=16-true: AdamW divides by zero in it, expected 16-mixed or bf16-true")
    log.info("precision: %s", cfg.trainer.precision)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]

    task: L.LightningModule = instantiate(cfg.task, model=instantiate(cfg.model))
    task = task.to(memory_format=torch.channels_last)
    if cfg.ckpt_path is not None and cfg.start_from is not None:
        raise InputError("ckpt_path goes on with a run, start_from begins one with the weights of another: give one")
    if cfg.ckpt_path is not None:
        fitting_weights(Path(cfg.ckpt_path), task)
    if cfg.start_from is not None:
        task.load_state_dict(fitting_weights(Path(cfg.start_from), task))

    callbacks = [RunConfig(config, choices()), *filter(None, instantiate(cfg.callbacks).values())]
    pruning = None
    if cfg.trial is not None:
        from stnrot.search.pruning import pruning_callback  # Optuna takes a second

        study = HydraConfig.get().sweeper
        pruning = pruning_callback(study.storage, study.study_name, cfg.trial, cfg.monitor.metric)
        callbacks.append(pruning)
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=list(filter(None, instantiate(cfg.logger).values())),
        enable_progress_bar=cfg.callbacks.get("progress") is not None,  # else Lightning brings one of its own
        plugins=[AtomicCheckpointIO(), *instantiate(cfg.trainer.get("plugins", []))],
    )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        check_processes(trainer.world_size, HydraConfig.get().launcher)
    if trainer.is_global_zero:
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")

    try:
        trainer.fit(task, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SIGTERMException as stopped:
        raise SystemExit(143) from stopped  # Lightning itself would end with 0, as if all were done
    if pruning is not None:
        pruning.check_pruned()  # of several processes none has raised so far
    trainer.test(task, datamodule=data, ckpt_path="best", weights_only=True)
    log.info("pictures, tables and checkpoints: %s", folder)
    log.info("look at it: tensorboard --logdir %s --samples_per_plugin images=1000", folder)
    best: Any = trainer.checkpoint_callback  # the first, `best`
    return math.nan if best.best_model_score is None else float(best.best_model_score)


def in_search(cfg: DictConfig) -> bool:
    """Say whether this is a trial of a search, whose study the sweeper knows."""
    return cfg.trial is not None and "storage" in HydraConfig.get().sweeper


def choices() -> dict[str, str]:
    """Return the options chosen on the command line and by default, such as model=rot_stn."""
    if not HydraConfig.initialized():
        return {}
    chosen = HydraConfig.get().runtime.choices
    return {group: name for group, name in chosen.items() if name and not group.startswith("hydra/")}


def fitting_weights(path: Path, task: L.LightningModule) -> dict[str, Any]:
    """Return the weights of a checkpoint, which must be those of such a model."""
    checkpoint = read_checkpoint(path)
    check_fits(checkpoint, task, path)
    return checkpoint["state_dict"]


def check_folder(folder: Path, ckpt_path: str | None) -> None:
    """Refuse to write over the checkpoints of another run."""
    existing = sorted((folder / "checkpoints").glob("*.ckpt"))
    if existing and (ckpt_path is None or Path(ckpt_path).resolve() not in [e.resolve() for e in existing]):
        raise InputError(
            f"{folder} holds the checkpoints of a run already: continue it with ckpt_path={existing[-1]}, "
            "or choose another hydra.run.dir"
        )


def check_task(cfg: DictConfig) -> None:
    """Refuse to align without an encoder, and to classify what is not at least two classes."""
    if cfg.model.get("reference") == "batch" and "encoder" not in cfg.model:
        raise InputError("task=register lays pictures over a reference: expected model=rot_stn")
    if cfg.model.get("classifier") is not None and cfg.data_spec.classes < 2:
        raise InputError(
            f"data.root={cfg.data.root} has {cfg.data_spec.classes} classes {list(cfg.data_spec.class_names)}: "
            "expected at least 2 folders of pictures to classify; to align without classes use task=register"
        )


if __name__ == "__main__":
    quiet_libraries()
    with one_line_errors():
        main()
