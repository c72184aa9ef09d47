"""Checks of a job's configuration before anything is built or written. Each error is one line for the user."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.seed import max_seed_value
from omegaconf import DictConfig

from stnrot.errors import InputError, check_number
from stnrot.regular_file import real
from stnrot.runs.overrides import as_override
from stnrot.runs.trainer_options import check_trainer


def check_groups(cfg: DictConfig, needed: tuple[str, ...]) -> None:
    """Raise InputError if a group is switched off that the job needs, or chosen with a dot, `model.encoder=cnn`.

    Args:
        needed: groups without which there is no job.
    """
    for group in needed:
        if cfg.get(group) is None:
            raise InputError(f"{group}=null: the job needs one; expected a choice such as --help lists")
    for section in ("model", "data"):
        for group in ("encoder", "classifier", "augment", "degrade", "source"):
            chosen = (cfg.get(section) or {}).get(group)
            if isinstance(chosen, str):
                raise InputError(f"{section}.{group}={chosen}: choose with a slash, {section}/{group}={chosen}")


def check_options(cfg: DictConfig) -> None:
    """Raise InputError if an option of the job itself has a bad value."""
    check_number("seed", cfg.seed, 0, max_seed_value)
    try:
        str(cfg.output_dir).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"output_dir={cfg.output_dir}: expected a path in UTF-8, which the log files need; choose another folder"
        ) from error
    check_trainer(cfg.trainer)
    for group in ("callbacks", "logger"):
        section = cfg.get(group) or {}
        for name, entry in section.items():
            if entry is not None and not _has_target(entry):
                raise InputError(f"{group}.{name}: expected one of {', '.join(section)}; or give it a _target_")
    for name in ("optimizer", "scheduler"):
        entry = cfg.task.get(name)
        if entry is not None and not _has_target(entry):
            raise InputError(f"task.{name}={entry}: expected a class in task.{name}._target_, or null")
    if cfg.ckpt_path is not None and cfg.start_from is not None:
        raise InputError(
            f"ckpt_path={cfg.ckpt_path} resumes a run, start_from={cfg.start_from} starts a new one: give one of them"
        )


def _has_target(entry: Any) -> bool:
    return isinstance(entry, DictConfig) and "_target_" in entry


def check_folder(folder: Path, ckpt_path: str | None) -> None:
    """Raise InputError if the folder holds the checkpoints of another run, which the job would overwrite."""
    existing = sorted((folder / "checkpoints").glob("*.ckpt"))
    if existing and (ckpt_path is None or real(ckpt_path) not in map(real, existing)):
        raise InputError(
            f"{folder} holds the checkpoints of a run already: choose another hydra.run.dir, or resume it with "
            f"{shlex.quote(as_override('resume', folder))}"
        )


def check_root(trained: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InputError if the data of a checkpoint lie in no folder: a source would download them there.

    Args:
        trained: the data of the checkpoint.
        given: what was typed. A URL is read only if it was typed: a checkpoint may come from anyone.
    """
    root = given.get("root", trained.get("root"))
    if not isinstance(root, str) or Path(root).expanduser().exists():
        return
    if not is_url(root):
        raise InputError(f"data.root={root}, the folder of the run's data, does not exist: set data.root to its path")
    if "root" not in given:
        raise InputError(f"the data of the run lie on a web server: to read them, add data.root={root}")


def is_url(root: str) -> bool:
    """Return whether the root of data is on a web server."""
    return root.startswith(("http://", "https://"))


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
