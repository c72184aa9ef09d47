"""Ctrl-C whose KeyboardInterrupt is lost, as that of a signal during a garbage collection; Ctrl-C after a failure."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from stnrot.callbacks.last_checkpoint import LastCheckpoint
from stnrot.runs.stop_signals import REQUEST, stops_at_signals


def test_a_lost_interrupt_stops_the_job_at_its_end(lost_interrupt: Callable[[], None]) -> None:
    with pytest.raises(SystemExit) as stopped, stops_at_signals():
        lost_interrupt()
    assert stopped.value.code == 130
    REQUEST.check()  # does not stop the next job


class Failing(L.LightningModule):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        raise RuntimeError("broken")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(nn.Linear(1, 1).parameters())


def test_a_training_that_has_failed_no_longer_delays_signals(tmp_path: Path) -> None:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    # delays a signal to the end of the step
    saving = LastCheckpoint(str(tmp_path), every_n_steps=4, every_minutes=None)
    trainer = L.Trainer(accelerator="cpu", callbacks=[saving], **quiet)

    def job() -> None:
        with stops_at_signals():
            with pytest.raises(RuntimeError, match="broken"):
                trainer.fit(Failing(), DataLoader([torch.ones(1)]))  # type: ignore[arg-type]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as stopped:
        job()
    assert stopped.value.code == 130
