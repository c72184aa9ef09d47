"""Refuse a checkpoint from which a training cannot be resumed, in one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, get_args

import lightning as L

from stnrot.errors import InputError, reason_of
from stnrot.runs.checkpoint_file import check_training
from stnrot.runs.loop_state import KEY, Place

LISTS, MAPPINGS = ("optimizer_states", "lr_schedulers"), ("loops", "callbacks")  # of a checkpoint; they hold mappings
COUNTERS = ("ready", "started", "processed", "completed", "_batches_that_stepped")  # of a loop
RESTORES = "lightning.pytorch.trainer.connectors.checkpoint_connector"  # the module that restores a training
EXPECTED = "expected the last.ckpt of a run, and the options of that run"


def steps_taken(trainer: L.Trainer, checkpoint: Mapping[str, Any], path: str) -> int:
    """Return how many steps the run to resume has taken.

    Args:
        trainer: of this run.
        checkpoint: of the run to resume.
        path: of the checkpoint.

    Raises:
        InputError: if that run has gone further than this one goes, or the checkpoint is a model without its training.
    """
    if "loops" not in checkpoint:
        raise InputError(
            f"ckpt_path={path} holds the weights of a model alone: expected a last.ckpt; to begin a new run with these "
            "weights, give start_from"
        )
    check_state(checkpoint, path)
    try:
        fit = checkpoint["loops"]["fit_loop"]
        within = fit["epoch_loop.batch_progress"]["current"]["completed"] > 0
        epochs = fit["epoch_progress"]["current"]["completed"] + within
        taken = {"max_epochs": epochs, "max_steps": checkpoint["global_step"] + 0}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be resumed: {reason_of(error)}; {EXPECTED}") from error
    for name, done in taken.items():
        most = getattr(trainer, name)
        if most is not None and -1 < most < done:
            raise InputError(
                f"trainer.{name}={most}: expected at least {done}, because the run to resume has come as far; raise "
                f"trainer.{name}"
            )
    return taken["max_steps"]


def check_state(checkpoint: Mapping[str, Any], path: str) -> None:
    """Check the parts of a training, not what Lightning and torch check themselves.

    Args:
        checkpoint: of the run to resume.
        path: of the checkpoint.

    Raises:
        InputError: if a part has another type than Lightning saves, holds other values than plain ones and tensors, or
            names a file above the folder of a run.
    """
    for name in (*LISTS, *MAPPINGS):
        part = checkpoint.get(name)
        inside = part.values() if name in MAPPINGS and isinstance(part, Mapping) else part
        kind = Mapping if name in MAPPINGS else list
        if not isinstance(part, kind) or not all(isinstance(each, Mapping) for each in inside or ()):
            raise InputError(f"{path} cannot be resumed: its {name} are of the type {_kind(part)}; {EXPECTED}")
    check_training({name: checkpoint[name] for name in checkpoint if name not in ("config", "state_dict")}, path)
    for name, state in checkpoint["callbacks"].items():  # that of the checkpoints removes files that it names
        texts = [each for value in state.values() for each in (value if isinstance(value, Mapping) else [value])]
        if any(isinstance(each, str) and ".." in PurePath(each).parts for each in texts):
            raise InputError(f"{path} cannot be resumed: {name!r:.40} names a file above its folder; {EXPECTED}")
    if not _are_counters(checkpoint["loops"]):
        raise InputError(f"{path} cannot be resumed: its loops have counters that are no numbers; {EXPECTED}")
    own = checkpoint.get(KEY)
    if own is not None and not _is_own(own):
        raise InputError(f"{path} cannot be resumed: its {KEY} is not what a run writes; {EXPECTED}")


def _kind(part: Any) -> str:
    """Name the type of a part, and of what it holds; its text could be of any length."""
    inside = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
    kinds = sorted({type(each).__name__ for each in inside})
    return type(part).__name__ + (f" of {', '.join(kinds)}" if kinds else "")


def _are_counters(loops: Any) -> bool:
    """Return whether the counters of all loops are numbers from 0 up."""
    counted = all(type(loops.get(name, 0)) is int and loops.get(name, 0) >= 0 for name in COUNTERS)
    return counted and all(_are_counters(each) for each in loops.values() if isinstance(each, Mapping))


def _is_own(own: Any) -> bool:
    """Return whether a state has the form in which `LastCheckpoint` saves it."""
    processes = own.get("processes") if isinstance(own, Mapping) else None
    return (
        isinstance(processes, list)
        and len(processes) > 0
        and all(isinstance(each, Mapping) and isinstance(each.get("logs"), Mapping) for each in processes)
        and own.get("place") in get_args(Place)
        and isinstance(own.get("stops"), bool)
        and isinstance(own.get("max_epochs"), int | None)
        and isinstance(own.get("samples"), int | None)
        and isinstance(own.get("content"), str | None)
    )


@contextmanager
def from_checkpoint(path: Any) -> Iterator[None]:
    """Turn any error inside, where values of a checkpoint are restored, into an InputError.

    Args:
        path: of the checkpoint.
    """
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be resumed: {reason_of(error)}; {EXPECTED}") from error


@contextmanager
def restoring(path: str | None) -> Iterator[None]:
    """Turn an error of Lightning or torch while a training is restored into an InputError.

    Args:
        path: of the checkpoint; None: there is none.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the values of a checkpoint from anyone lead to
        if path is None or not _restores(error):
            raise
        raise InputError(f"{path} cannot be resumed: {reason_of(error)}; {EXPECTED}") from error


def _restores(error: Exception) -> bool:
    at = error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__") != RESTORES:
        at = at.tb_next
    return at is not None
