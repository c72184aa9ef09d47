"""Keep last.ckpt: the newest state of a training, from which it resumes as if it had not been stopped."""

import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from stnrot.callbacks.prediction_collector import gathered
from stnrot.errors import InputError, check_number
from stnrot.runs.log_position import log_positions
from stnrot.runs.loop_state import KEY, Place, counters_at_rest, own_state, restore_metrics, restore_position
from stnrot.runs.resumable import from_checkpoint
from stnrot.runs.run_lock import check_folders_stay
from stnrot.runs.stop_signals import REQUEST, Stopped, install_handlers


class LastCheckpoint(L.Callback):
    """Write `last.ckpt` at the start of each epoch and at the end, on request also in an epoch, and at a signal.

    It is no `ModelCheckpoint`: Lightning calls those last in each hook, after log rows that belong to the next step,
    and resumes from them without the metrics of the epoch so far. This callback must come before all that log.

    Args:
        dirpath: folder of the checkpoint.
        every_n_steps: optimizer steps between two checkpoints within an epoch; None: none.
        every_minutes: minutes between two checkpoints within an epoch; None: none.
    """

    def __init__(self, dirpath: str, every_n_steps: int | None, every_minutes: float | None) -> None:
        if every_n_steps is not None:
            check_number("every_n_steps", every_n_steps, 1)
        if every_minutes is not None:
            check_number("every_minutes", every_minutes, 0, whole=False)
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self._place: Place | None = None  # while it saves
        self._before_validation: dict[str, Any] | None = None
        self._resumed: dict[str, Any] | None = None  # until everything is restored
        self._saved_step, self._saved_time = 0, time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Restore the metrics of the epoch so far."""
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if self._resumed is not None:
            self._check_samples(trainer)
            with from_checkpoint(trainer.ckpt_path):
                restore_metrics(trainer, self._own(trainer), self._resumed["place"])
        install_handlers()
        REQUEST.waits = REQUEST.active and not self._is_off(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save what the epoch before has reached."""
        if self._resumed is None and trainer.global_step > 0:
            self.save(trainer, "epoch")

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save if it is time, and stop if a signal has asked for it."""
        self._restore_position(trainer)
        if batch_idx == 0:  # the start of the epoch has saved
            self._stop(trainer)
        elif batch_idx % trainer.accumulate_grad_batches == 0:  # else gradients wait for their step
            self._save_if_due(trainer, "batch")
            self._stop(trainer, "batch")

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Note the state before the validation, which changes the metrics, and save if it is time."""
        self._before_validation = None
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._restore_position(trainer)
        epoch = trainer.fit_loop.epoch_loop
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        averages = any(isinstance(each, WeightAveraging) for each in callbacks)  # swaps the weights to validate
        if not epoch._should_accumulate() and not averages and not self._is_off(trainer):
            self._before_validation = own_state(trainer) | {"logs": log_positions(trainer)}
            self._save_if_due(trainer, "validation")

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Stop if a signal has asked for it. The validation is repeated when the run resumes."""
        if self._before_validation is not None:
            self._stop(trainer, "validation")

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save the end."""
        REQUEST.waits = False
        if trainer.global_step > 0:
            self.save(trainer, "epoch")

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Let a signal stop at once what comes after a training that failed, such as the next trial of a search."""
        if not isinstance(exception, Stopped):
            REQUEST.waits = False

    def on_test_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Let a signal stop the test at once: there is nothing to save."""
        install_handlers()

    def save(self, trainer: L.Trainer, place: Place) -> None:
        """Save the checkpoint.

        Args:
            place: where the training stands, see `stnrot.runs.loop_state`.
        """
        if self._is_off(trainer):
            return
        check_folders_stay()
        self._place = place
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._place = None
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning lacks. A checkpoint of another callback is left as it is."""
        if self._place is None:
            return
        counters_at_rest(checkpoint["loops"]["fit_loop"], self._place)
        before = self._before_validation if self._place == "validation" else None
        own = before or own_state(trainer) | {"logs": log_positions(trainer)}
        checkpoint[KEY] = {
            "place": self._place,
            "stops": bool(trainer.should_stop),
            "max_epochs": trainer.max_epochs,
            "samples": _samples(trainer),
            "content": _content(trainer),
            "processes": gathered(own),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the state until the training has started."""
        self._resumed = checkpoint.get(KEY)
        if self._resumed is None or trainer.state.fn != TrainerFn.FITTING:
            self._resumed = None
            return
        found = len(self._resumed["processes"])
        if found != trainer.world_size and self._resumed["place"] != "epoch":
            raise InputError(
                f"{trainer.ckpt_path} stands within an epoch of {found} processes, expected as many, got "
                f"{trainer.world_size}: give the trainer options of that run"
            )
        # an early stop stays one, unless the run is extended
        trainer.should_stop = self._resumed["stops"] and trainer.max_epochs == self._resumed["max_epochs"]

    def _check_samples(self, trainer: L.Trainer) -> None:
        """Raise InputError within an epoch of another training set: its rest would not be what the run has left."""
        assert self._resumed is not None
        if self._resumed["place"] == "epoch":
            return
        # None in a checkpoint of an older version
        trained, given = self._resumed.get("samples"), _samples(trainer)
        if None not in (trained, given) and trained != given:
            raise InputError(
                f"{trainer.ckpt_path} stands within an epoch of {trained} training samples, expected as many, got "
                f"{given}: restore the data of that run, or start a new run with its weights by start_from"
            )
        content, other = self._resumed.get("content"), _content(trainer)  # None of a set in memory
        if None not in (content, other) and content != other:
            raise InputError(
                f"{trainer.ckpt_path} stands within an epoch of other shards: restore those of that run, or start a "
                "new run with its weights by start_from"
            )

    def _own(self, trainer: L.Trainer) -> dict[str, Any]:
        assert self._resumed is not None
        states = self._resumed["processes"]
        return states[min(trainer.global_rank, len(states) - 1)]

    def _restore_position(self, trainer: L.Trainer) -> None:
        if self._resumed is not None:
            with from_checkpoint(trainer.ckpt_path):
                restore_position(trainer, self._own(trainer))
            self._resumed = None

    def _save_if_due(self, trainer: L.Trainer, place: Place) -> None:
        step, due = trainer.global_step, False
        if step == self._saved_step:
            return
        if self.every_n_steps is not None:
            due = step % self.every_n_steps == 0
        if self.every_minutes is not None and not due:
            late = time.monotonic() - self._saved_time >= 60 * self.every_minutes
            due = trainer.strategy.broadcast(late) if trainer.world_size > 1 else late  # the clocks differ
        if due:
            self.save(trainer, place)

    def _stop(self, trainer: L.Trainer, place: Place | None = None) -> None:
        """Stop in all processes at the same batch, if a signal has reached one of them."""
        asked = REQUEST.waits and REQUEST.signal is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            if place is not None and trainer.global_step != self._saved_step:
                self.save(trainer, place)
            raise Stopped

    def _is_off(self, trainer: L.Trainer) -> bool:
        return bool(trainer.fast_dev_run) or trainer.sanity_checking  # type: ignore[attr-defined]


def _samples(trainer: L.Trainer) -> int | None:
    """Return the size of the training set, None if it has none."""
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) else None


def _content(trainer: L.Trainer) -> str | None:
    """Return what the training set says about its content, None if it says nothing."""
    return getattr(getattr(trainer.train_dataloader, "dataset", None), "fingerprint", None)
