"""Stop at a loss that is no number, instead of training on in silence."""

from typing import Any

import lightning as L
import torch

from stnrot.errors import InputError


class FiniteLoss(L.Callback):
    """Check the loss of every `every` steps; the checkpoints written so far stay as they are."""

    def __init__(self, every: int = 10) -> None:
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss now and then: each look waits for the device."""
        if trainer.global_step % self.every == 0 and not torch.isfinite(outputs["loss"]):
            raise InputError(
                f"the loss became {outputs['loss'].item()} in epoch {trainer.current_epoch}, step "
                f"{trainer.global_step}: lower task.optimizer.lr; earlier checkpoints are kept"
            )
