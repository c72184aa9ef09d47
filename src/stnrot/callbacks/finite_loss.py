"""Stop a run whose loss is not finite."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from stnrot.errors import InputError, check_number


class FiniteLoss(L.Callback):
    """Check the training loss every few steps, and the validation loss before a checkpoint is written.

    Args:
        every: steps between two checks of the training loss. Each check waits for the device.
    """

    def __init__(self, every: int) -> None:
        check_number("every", every, 1)
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the training loss, every `every` steps."""
        if trainer.global_step % self.every == 0:
            self._check(trainer, outputs["loss"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the loss of the validation set."""
        if "val/loss" in trainer.callback_metrics:
            self._check(trainer, trainer.callback_metrics["val/loss"])

    def _check(self, trainer: L.Trainer, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss became {loss.item()} in epoch {trainer.current_epoch}, step {trainer.global_step}: "
                "lower task.optimizer.lr; earlier checkpoints are kept"
            )
