"""A learning rate that changes every step, over a length that a continued run must keep."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from stnrot.errors import InputError


class ScheduledTask(L.LightningModule):
    """A task with an optimizer and a schedule over the whole run.

    Args:
        optimizer: called with parameters or groups of them; None for a task that is only to predict.
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped every batch, or None.
    """

    def __init__(self, optimizer: Callable[..., Optimizer] | None, scheduler: Callable[..., Any] | None) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self._steps_resumed: int | None = None

    def log_means(self, values: Mapping[str, Tensor], count: int) -> None:
        """Log what are means over the `count` samples of a batch as their mean over an epoch and all processes."""
        # as a float: Lightning divides a whole number of samples by that of processes, and rounds (its issue 21859)
        weight: Any = float(count)
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=weight)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take down how long the schedule of a run to continue is."""
        self._steps_resumed = next((each["total_steps"] for each in checkpoint.get("lr_schedulers", [])), None)

    def optimizer_of(self, parameters: Iterable[Any]) -> Optimizer:
        """Build the optimizer."""
        assert self.make_optimizer is not None
        try:
            return self.make_optimizer(parameters)
        except (TypeError, ValueError) as error:
            raise InputError(f"task.optimizer cannot be built: {error}") from error

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
