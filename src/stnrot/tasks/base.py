"""What all tasks share: optimizer, learning rate schedule, and the hooks of validation and test."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning as L
from torch import Tensor, nn
from torch.optim import Optimizer

from stnrot.errors import InputError


class Task(L.LightningModule, ABC):
    """Train a model, and measure it on the validation set and the test set.

    A task of its own defines `training_step`, `measure` and `report`.

    Args:
        model: network to train.
        optimizer: called with the parameters; None for a task that only predicts.
        scheduler: called with (optimizer, max_lr=[...], total_steps=...) and stepped after every batch; None keeps the
            learning rate constant.
    """

    model: Any

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None,
        scheduler: Callable[..., Any] | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer, self.scheduler = optimizer, scheduler
        self._planned_steps: int | None = None

    @abstractmethod
    def measure(self, batch: Any, part: str) -> Any:
        """Predict for a batch of the validation set (`part` is `val`) or the test set (`test`); update the metrics.

        The callbacks receive what this method returns.
        """

    @abstractmethod
    def report(self, part: str) -> None:
        """Log the metrics of the epoch over all processes, and reset them."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Measure a batch of the validation set."""
        return self.measure(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Measure a batch of the test set."""
        return self.measure(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self.report("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test set."""
        self.report("test")

    def log_means(self, values: Mapping[str, Tensor], count: int) -> None:
        """Log means over the `count` samples of a batch; an epoch's value is the mean over its samples."""
        # a float, because Lightning rounds when it divides an integer by the number of processes (its issue 21859)
        weight: Any = float(count)
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=weight)

    def build_optimizer(self) -> Optimizer:
        """Build the optimizer of all parameters of the model."""
        return self.optimizer_of(self.model.parameters())

    def optimizer_of(self, parameters: Iterable[Any]) -> Optimizer:
        """Build the optimizer of some parameters or parameter groups."""
        assert self.optimizer is not None
        try:
            return self.optimizer(parameters)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"task.optimizer cannot be built: {error}; expected its options, such as task.optimizer.lr=3e-3"
            ) from error

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which spans all steps of the run.

        Raises:
            InputError: if a resumed run has another number of steps than its schedule was planned for.
        """
        optimizer = self.build_optimizer()
        if self.scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        if self._planned_steps not in (None, steps):
            raise InputError(
                f"the schedule of the run to resume was planned for {self._planned_steps} steps, this run has {steps}: "
                "give the same trainer.max_epochs and data, or train without a schedule (task.scheduler=null)"
            )
        rates = [group["lr"] for group in optimizer.param_groups]
        scheduler = self.scheduler(optimizer, max_lr=rates, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read from the checkpoint of a run to resume how many steps its schedule was planned for."""
        self._planned_steps = next((each["total_steps"] for each in checkpoint.get("lr_schedulers", [])), None)
