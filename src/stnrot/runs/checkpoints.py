"""Write checkpoints atomically, read them without running code from them, and rebuild a task from one."""

import os
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import OmegaConf
from torch import nn
from torch.nn.parameter import is_lazy

from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular
from stnrot.runs.allowed_targets import ASK, check_targets, without_weights
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.checkpoint_file import bytes_of, check_config, check_weights, read_archive
from stnrot.runs.command_line import input_error
from stnrot.runs.memory_limit import MemoryLimit
from stnrot.runs.moved_targets import with_new_names
from stnrot.runs.published import SUFFIX, read_published


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replace a checkpoint atomically, see `atomic_write`.

    Lightning's own class writes to the temporary folder and moves the file: between two file systems this is a copy,
    which is not atomic, and nothing is flushed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to a local path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(target) as new, new.open("wb") as file:  # a path would become part of the archive
                torch.save(checkpoint, file)
        except RuntimeError as error:
            # after an interrupt torch closes its archive, which raises an error of its own
            if isinstance(error.__context__, KeyboardInterrupt | OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Load a checkpoint of `train.py`, or a published model, as plain data onto the CPU.

    Raises:
        InputError: if there is no such file, or it is no checkpoint of this project.
    """
    if os.path.isdir(path) or Path(path).suffix == SUFFIX:
        return _checked(read_published(Path(path)), path)
    check_regular(path)
    try:
        checkpoint = read_archive(path)
    except FileNotFoundError:
        raise InputError(
            f"no checkpoint at {path}: give the path of a run's checkpoints/best.ckpt or last.ckpt"
        ) from None
    except Exception as error:  # a broken pickle can raise almost anything
        raise InputError(
            f"{path} is not a readable checkpoint ({type(error).__name__}): give a run's best.ckpt or last.ckpt"
        ) from error
    return _checked(checkpoint, path)


def _checked(checkpoint: Any, path: Path | str) -> dict[str, Any]:
    """Return a checkpoint with the names of today.

    Raises:
        InputError: if it has no configuration of a run.
    """
    given = checkpoint.get("config") if isinstance(checkpoint, dict) and "state_dict" in checkpoint else None
    check_config(given, path)
    config = with_new_names(dict(given)) if isinstance(given, Mapping) else {}
    if not {"model", "task", "data", "data_spec"} <= config.keys():
        raise InputError(
            f"{path} was not written by train.py: it has no run configuration; give a run's best.ckpt or last.ckpt"
        )
    _check_plain(config, path)
    check_weights(checkpoint["state_dict"], path)
    return checkpoint | {"config": config}


def _check_plain(config: dict[str, Any], path: Path | str) -> None:
    """Raise InputError unless the values that a job copies into its own configuration are plain.

    `check_targets` checks the sections that are built from the checkpoint. These two values become part of sections
    that are built from the command line: a `_target_` or an interpolation in them would be built too.
    """
    trainer = config.get("trainer")
    known = isinstance(trainer, dict) and trainer.get("_target_") == "lightning.Trainer"
    precision = trainer.get("precision") if isinstance(trainer, dict) else trainer
    sections = [config[name] for name in ("model", "task", "data", "data_spec")]
    if (
        type(config.get("seed")) is not int
        or not known
        or not isinstance(precision, str | int | None)
        or not re.fullmatch(r"[\w-]+", str(precision))
        or not all(isinstance(section, dict) for section in sections)
    ):
        raise InputError(
            f"{path} has a run configuration that train.py does not write: seed={config.get('seed')!r:.50}, "
            f"trainer.precision={precision!r:.50}; give a run's best.ckpt or last.ckpt"
        )


def _version(checkpoint: dict[str, Any]) -> str:
    """Return the version of the package that wrote a checkpoint, in words."""
    saved = checkpoint.get("stnrot")
    return f"stnrot {saved:.20}" if isinstance(saved, str) else "stnrot 0.3.0 or older"


def weights_of(checkpoint: dict[str, Any], task: L.LightningModule, path: Path | str) -> dict[str, Any]:
    """Return the weights of a checkpoint.

    Raises:
        InputError: names the first weight whose name or shape is not that of the task's model.
    """
    have = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    want = {
        name: have.get(name, "any") if is_lazy(value) else tuple(value.shape)
        for name, value in task.state_dict().items()
    }
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            built = type(task.model).__name__
            saved = str(checkpoint["config"]["model"].get("_target_", "")).rpartition(".")[2]
            raise InputError(
                f"{path} is a checkpoint of another model ({saved}, here {built}): {name} has shape "
                f"{have.get(name, 'none')} there and {want.get(name, 'none')} here; give the model options of that run"
            )
    return checkpoint["state_dict"]


def rebuild(checkpoint: dict[str, Any], path: Path | str, trust: Iterable[str] | str = (), ask: str = ASK) -> Any:
    """Build the task of a run with its weights from a checkpoint, in evaluation mode and without an optimizer.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        path: of the checkpoint; it begins the messages.
        trust: packages whose code the checkpoint may run, see `allowed_targets.py`.
        ask: what the user types to trust a package, with {0} for its name.

    Raises:
        InputError: if this version of the package cannot build it, or the configuration names other code.
    """
    task = checkpoint["config"]["task"] | {"optimizer": None, "scheduler": None}
    plain = without_weights({"model": checkpoint["config"]["model"], "task": task})
    check_targets(plain, "model", trust, ask)
    config: Any = OmegaConf.create(plain)
    here, then = f"stnrot {version('stnrot')}", f"use the version that wrote it, {_version(checkpoint)}"
    weights = checkpoint["state_dict"]
    try:
        with MemoryLimit(bytes_of(weights), len(weights)):
            built: L.LightningModule = instantiate(config.task, model=instantiate(config.model))
    except Exception as error:  # of a class that is built with arguments of anyone's choice, or of Hydra
        reason = input_error(error) or reason_of(error.__cause__ or error)
        raise InputError(f"{here} cannot rebuild {path}: {reason}; {then}") from error
    if not isinstance(built, L.LightningModule) or not isinstance(getattr(built, "model", None), nn.Module):
        raise InputError(f"{here} cannot rebuild {path}: expected a task with a model, got {type(built).__name__}")
    built.load_state_dict(weights_of(checkpoint, built, path))
    return built.eval()
