"""A learning rate that changes every step, over a length that a continued run must keep."""

from collections.abc import Callable
from typing import Any

import lightning as L
from torch.optim import Optimizer

from stnrot.errors import InputError


class ScheduledTask(L.LightningModule):
    """A task with an optimizer and a schedule over the whole run.

    Args:
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped every batch, or None.
    """

    def __init__(self, scheduler: Callable[..., Any] | None) -> None:
        super().__init__()
        self.make_scheduler = scheduler
        self._steps_resumed: int | None = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take down how long the schedule of a run to continue is."""
        self._steps_resumed = next((each["total_steps"] for each in checkpoint.get("lr_schedulers", [])), None)

    def scheduled(self, optimizer: Optimizer) -> Any:
        """Return what `configure_optimizers` is to return."""
        if self.make_scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        if self._steps_resumed not in (None, steps):
            raise InputError(
                f"the run to continue was planned for {self._steps_resumed} steps, for which its schedule was made, "
                f"this one for {steps}: give the same trainer.max_epochs and data, or train without a schedule "
                "(task.scheduler=null)"
            )
        rates = [group["lr"] for group in optimizer.param_groups]
        scheduler = self.make_scheduler(optimizer, max_lr=rates, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
