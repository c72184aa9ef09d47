"""Checks of a job's configuration before anything is built or written. Each error is one line for the user."""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stnrot.errors import InputError, check_number


def check_groups(cfg: DictConfig) -> None:
    """Raise InputError if a choice was made with a dot, `model.encoder=cnn`, instead of a slash."""
    for section in ("model", "data"):
        for group in ("encoder", "classifier", "augment", "degrade", "source"):
            chosen = cfg.get(section, {}).get(group)
            if isinstance(chosen, str):
                raise InputError(f"{section}.{group}={chosen}: choose with a slash, {section}/{group}={chosen}")


def check_options(cfg: DictConfig) -> None:
    """Raise InputError if an option of the job itself has a bad value."""
    check_number("seed", cfg.seed, 0, 2**32 - 1)
    check_number("trainer.max_epochs", cfg.trainer.max_epochs, 1)
    for name, callback in cfg.callbacks.items():
        if callback is not None and "_target_" not in callback:
            raise InputError(f"callbacks.{name}: expected one of {', '.join(cfg.callbacks)}; or give it a _target_")
    if cfg.trainer.precision == "16-true":
        raise InputError("trainer.precision=16-true: AdamW divides by zero in it, expected 16-mixed or bf16-true")
    if cfg.ckpt_path is not None and cfg.start_from is not None:
        raise InputError(
            f"ckpt_path={cfg.ckpt_path} resumes a run, start_from={cfg.start_from} starts a new one: give one of them"
        )


def check_folder(folder: Path, ckpt_path: str | None) -> None:
    """Raise InputError if the folder holds the checkpoints of another run, which the job would overwrite."""
    existing = sorted((folder / "checkpoints").glob("*.ckpt"))
    if existing and (ckpt_path is None or Path(ckpt_path).resolve() not in [each.resolve() for each in existing]):
        raise InputError(
            f"{folder} holds the checkpoints of a run already: resume it with ckpt_path={existing[-1]}, "
            "or choose another hydra.run.dir"
        )


def check_model(cfg: DictConfig) -> None:
    """Raise InputError if the model does not fit the task or the data."""
    if cfg.model.get("reference") == "batch" and "encoder" not in cfg.model:
        given = cfg.model["_target_"].rpartition(".")[2]
        raise InputError(f"task=register aligns images by an encoder: expected model=rot_stn, got {given}")
    if cfg.model.get("classifier") is not None and cfg.data_spec.classes < 2:
        raise InputError(
            f"data.root={cfg.data.root} has {cfg.data_spec.classes} classes {list(cfg.data_spec.class_names)}: "
            "expected at least 2 folders of images to classify; to align without classes use task=register"
        )


def check_processes(processes: int, launcher: Any) -> None:
    """Exit if a job of a multirun starts processes of its own, because each of them would run the whole multirun.

    Args:
        processes: number of processes of one job.
        launcher: configuration of the launcher. SLURM's is allowed: SLURM itself starts the processes of each job.
    """
    if processes > 1 and not launcher["_target_"].endswith(".SlurmLauncher"):
        sys.exit(  # ends the whole multirun, not only this job
            f"error: a multirun (-m) job asks for {processes} processes, and each would run the sweep again: set "
            "trainer.devices=1, run the jobs one by one without -m, or give each to SLURM with "
            "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=DEVICES"
        )
