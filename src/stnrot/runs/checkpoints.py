"""Checkpoints: written so that no crash destroys one, read without running code from them."""

import os
import pickle
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, ListConfig, OmegaConf

from stnrot.errors import InputError
from stnrot.runs.command_line import input_error
from stnrot.runs.moved_targets import with_new_names


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to the disk, then rename.

    A kill or a full disk leaves the old file whole. Lightning's own goes through the temporary directory,
    and a move between file systems is a copy, which is not atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to a local path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except RuntimeError as error:
            # torch closes its archive after whatever stopped it, which fails in its turn and hides a Ctrl-C
            if isinstance(error.__context__, KeyboardInterrupt | OSError):
                raise error.__context__ from None
            raise
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of this project as plain data, onto the CPU."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"no checkpoint at {path}: give the path of a run's checkpoints/best.ckpt or last.ckpt"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} is not a readable checkpoint ({type(error).__name__}): give a run's best.ckpt or last.ckpt"
        ) from error
    known = isinstance(checkpoint, dict) and {"config", "state_dict"} <= checkpoint.keys()
    config = with_new_names(dict(checkpoint["config"] or {})) if known else {}
    if not {"model", "task", "data", "data_spec"} <= config.keys():
        raise InputError(f"{path} was not written by train.py: it has no run configuration")
    return checkpoint | {"config": config}


def check_fits(checkpoint: dict[str, Any], task: L.LightningModule, path: Path) -> None:
    """Raise InputError, naming the first difference, if the weights are those of another model."""
    have = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    want = {name: tuple(value.shape) for name, value in task.state_dict().items()}
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            built = type(task.model).__name__
            saved = str(checkpoint["config"]["model"].get("_target_", "")).rpartition(".")[2]
            raise InputError(
                f"{path} is a checkpoint of another model ({saved}, here {built}): {name} has shape "
                f"{have.get(name, 'none')} there and {want.get(name, 'none')} here; give the model options of that run"
            )


def check_targets(config: Any) -> None:
    """Refuse a configuration that would build anything that is not defined in this project.

    A dotted path can reach any function that one of our modules imports, so what it leads to must itself
    say that it was defined under that path.
    """
    if isinstance(config, (DictConfig, ListConfig)):
        config = OmegaConf.to_container(config)
    if isinstance(config, list):
        for item in config:
            check_targets(item)
    elif isinstance(config, str) and "${" in config:
        raise InputError(f"the checkpoint's configuration holds {config!r}: expected plain values")
    elif isinstance(config, dict):
        target = config.get("_target_")
        if target is not None:
            module, _, name = str(target).rpartition(".")
            try:
                found = get_object(target) if module.startswith("stnrot.") else None
            except ImportError:
                found = None
            if getattr(found, "__module__", None) != module or getattr(found, "__qualname__", None) != name:
                raise InputError(
                    f"the checkpoint's configuration wants to build {target}, "
                    f"which is not part of stnrot {version('stnrot')}"
                )
        for item in config.values():
            check_targets(item)


def rebuild(checkpoint: dict[str, Any], path: Path) -> Any:
    """Build the task of a run from its checkpoint, with its weights, ready to predict but not to train."""
    task = checkpoint["config"]["task"] | {"optimizer": None, "scheduler": None}
    plain = {"model": checkpoint["config"]["model"], "task": task}
    check_targets(plain)
    config = OmegaConf.create(plain)
    try:
        built: L.LightningModule = instantiate(config.task, model=instantiate(config.model))
    except InstantiationException as error:
        reason = input_error(error) or str(error.__cause__ or error).splitlines()[0]
        here = f"stnrot {version('stnrot')}"
        raise InputError(f"{here} cannot rebuild {path}: {reason}; use the version that wrote it") from error
    check_fits(checkpoint, built, path)
    built.load_state_dict(checkpoint["state_dict"])
    return built.eval()
