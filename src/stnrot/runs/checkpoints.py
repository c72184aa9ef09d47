"""Write checkpoints atomically, read them without running code from them, and rebuild a task from one."""

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
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.command_line import input_error
from stnrot.runs.moved_targets import with_new_names


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
    """Load a checkpoint of `train.py` as plain data, onto the CPU.

    Raises:
        InputError: if there is no such file, or it is no checkpoint of this project.
    """
    check_regular(path)
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
        raise InputError(
            f"{path} was not written by train.py: it has no run configuration; give a run's best.ckpt or last.ckpt"
        )
    return checkpoint | {"config": config}


def weights_of(checkpoint: dict[str, Any], task: L.LightningModule, path: Path | str) -> dict[str, Any]:
    """Return the weights of a checkpoint.

    Raises:
        InputError: names the first weight whose name or shape is not that of the task's model.
    """
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
    return checkpoint["state_dict"]


def check_targets(config: Any) -> None:
    """Raise InputError if a configuration would build anything that is not defined in this project.

    A dotted path such as `stnrot.some.module.os.system` reaches what a module imports. So `__module__` and
    `__qualname__` of the object must equal the path.
    """
    if isinstance(config, (DictConfig, ListConfig)):
        config = OmegaConf.to_container(config)
    if isinstance(config, list):
        for item in config:
            check_targets(item)
    elif isinstance(config, str) and "${" in config:
        raise InputError(f"the configuration of the checkpoint has {config!r}: expected plain values")
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
                    f"the configuration of the checkpoint builds {target}, which is not part of stnrot "
                    f"{version('stnrot')}: expected a checkpoint of train.py without classes of your own"
                )
        for item in config.values():
            check_targets(item)


def rebuild(checkpoint: dict[str, Any], path: Path | str) -> Any:
    """Build the task of a run with its weights from a checkpoint, in evaluation mode and without an optimizer.

    Raises:
        InputError: if this version of the package cannot build it, or the configuration names other code.
    """
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
    built.load_state_dict(weights_of(checkpoint, built, path))
    return built.eval()
