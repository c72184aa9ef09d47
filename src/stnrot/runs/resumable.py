"""Refuse a checkpoint from which a training cannot be resumed, in one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L

from stnrot.errors import InputError, reason_of

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
