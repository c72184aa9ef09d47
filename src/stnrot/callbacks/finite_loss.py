"""Stop at a loss that is no number, instead of training on in silence."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from stnrot.errors import InputError, check_number


class FiniteLoss(L.Callback):
    """Check the training loss now and then, and the validation loss before any checkpoint is written.

    Args:
        every: steps between two looks at the training loss; each look waits for the device.
    """

    def __init__(self, every: int) -> None:
        check_number("every", every, 1)
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of this step."""
        if trainer.global_step % self.every == 0:
            self._check(trainer, outputs["loss"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the loss of the validation set."""
        if "val/loss" in trainer.callback_metrics:
            self._check(trainer, trainer.callback_metrics["val/loss"])

    def _check(self, trainer: L.Trainer, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss became {loss.item()} in epoch {trainer.current_epoch}, step {trainer.global_step}: "
                "lower task.optimizer.lr; earlier checkpoints are kept"
            )
