"""What all tasks share: optimizer, learning rate schedule, and the hooks of validation and test."""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor, nn
from torch.optim import LBFGS, Adam, AdamW, Optimizer, SparseAdam

from stnrot.errors import InputError
from stnrot.runs.resumable import from_checkpoint
from stnrot.tasks.optimizer_state import FAINT_EVERY, drop_faint, in_one_layout, match_layouts
from stnrot.tasks.resumed_state import check_optimizer_state, check_schedule_state
from stnrot.tasks.schedule import build_schedule, plan_anew

log = logging.getLogger("train")
OPEN = {"fused": None, "foreach": None, "capturable": False, "differentiable": False}  # Adam's kernel is not chosen


class Task(L.LightningModule, ABC):
    """Train a model, and measure it on the validation set and the test set.

    A task of its own defines `training_step`, `measure` and `report`.

    Args:
        model: network to train.
        optimizer: called with the parameters; None for a task that only predicts.
        scheduler: builds the learning rate schedule, see `build_schedule`; None keeps the learning rate constant.
    """

    model: Any

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer, self.scheduler = optimizer, scheduler
        self._resumed: dict[str, Any] | None = None

    def configure_model(self) -> None:
        """Shard the model, if that is the strategy of the trainer; Lightning calls this method."""
        strategy: Any = self.trainer.strategy
        if hasattr(strategy, "shard"):  # `ShardingStrategy`, whose module most jobs do not import: it takes a second
            strategy.shard(self)

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

    def on_train_start(self) -> None:
        """Begin to fetch at the batch at which a run resumes.

        Lightning begins when the schedule asks for the length of the run, before it restores the number of the epoch:
        workers have then fetched batches of the first epoch.
        """
        fetcher: Any = self.trainer.fit_loop._data_fetcher
        if self.trainer.ckpt_path is not None and fetcher is not None:
            iter(fetcher)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """From time to time, set what is left of the momenta of dead weights to zero."""
        if self.global_step % FAINT_EVERY == 0:
            drop_faint(optimizer)

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
        if self.optimizer is None:
            raise InputError(
                "task.optimizer=null: training needs one; expected a class of torch.optim, such as "
                "task.optimizer._target_=torch.optim.AdamW"
            )
        try:
            optimizer = self.optimizer(parameters)
        except (TypeError, ValueError, NotImplementedError) as error:
            surplus = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            leave_out = f"leave it out with ~task.optimizer.{surplus[1]}" if surplus else None
            hint = leave_out or "expected its options, such as task.optimizer.lr=3e-3"
            raise InputError(f"task.optimizer cannot be built: {error}; {hint}") from error
        if isinstance(optimizer, SparseAdam):
            raise InputError("task.optimizer: SparseAdam needs sparse gradients, and these models have none; use Adam")
        optimizer.register_load_state_dict_pre_hook(check_optimizer_state)
        weights = [each for group in optimizer.param_groups for each in group["params"]]
        if isinstance(optimizer, LBFGS) and not all(each.is_contiguous() for each in weights):
            raise InputError("task.optimizer: LBFGS cannot flatten the weights of a convolution; use AdamW")
        usual = all(each.device.type in ("cpu", "cuda") and each.is_floating_point() for each in weights)
        if type(optimizer) in (Adam, AdamW) and usual and all(map(in_one_layout, weights)):
            optimizer.register_load_state_dict_post_hook(match_layouts)
            for group in optimizer.param_groups:
                if OPEN.items() <= group.items():
                    group["fused"] = True  # one pass over the weights; the same formula
        return optimizer

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule. If a run resumes with another length, its schedule is planned anew.

        Raises:
            InputError: if the run to resume has more steps than this one.
        """
        optimizer = self.build_optimizer()
        if self.scheduler is None:
            return optimizer
        schedule = build_schedule(self.scheduler, optimizer, self.trainer)
        if self._resumed is not None:
            self._plan_anew(schedule["scheduler"], optimizer, self._resumed)
            self._resumed = None
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _plan_anew(self, scheduler: Any, optimizer: Optimizer, checkpoint: dict[str, Any]) -> None:
        with from_checkpoint(self.trainer.ckpt_path):
            for state in checkpoint["lr_schedulers"]:
                check_schedule_state(scheduler, state)
            changed = plan_anew(scheduler, optimizer, checkpoint)
        if changed is not None and self.trainer.is_global_zero:
            log.info(changed)

    def on_validation_end(self) -> None:
        """Step `ReduceLROnPlateau`. Lightning would step it after the checkpoint: a resumed run would miss the step."""
        for config in [] if self.trainer.sanity_checking else self.trainer.lr_scheduler_configs:
            metric = self.trainer.callback_metrics.get(str(config.monitor))
            scheduler: Any = config.scheduler
            if _steps_after_validation(config) and metric is not None:
                scheduler.step(metric)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule; Lightning calls this method.

        Raises:
            InputError: if the scheduler fails, for example after more steps than `task.scheduler.total_steps`.
        """
        configs = [each for each in self.trainer.lr_scheduler_configs if each.scheduler is scheduler]
        if any(map(_steps_after_validation, configs)):
            return
        try:
            super().lr_scheduler_step(scheduler, metric)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"task.scheduler: {error}; expected the options of {type(scheduler).__name__}") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint of a run to resume until its schedule is built; Lightning reads the schedule from it.

        If the model is sharded, the schedule is built before the checkpoint is read.
        """
        self._resumed = None
        attached = self._trainer is not None  # else `load_from_checkpoint` has called this
        if not checkpoint.get("lr_schedulers") or not attached or self.trainer.state.fn != TrainerFn.FITTING:
            return
        if self.trainer.strategy.restore_checkpoint_after_setup:
            for config in self.trainer.lr_scheduler_configs:
                self._plan_anew(config.scheduler, self.trainer.optimizers[0], checkpoint)
        else:
            self._resumed = checkpoint


def _steps_after_validation(config: LRSchedulerConfig) -> bool:
    return config.reduce_on_plateau and config.interval == "epoch" and str(config.monitor).startswith("val/")
