"""Build the learning rate schedule of a run: any class of torch.optim.lr_scheduler, also nested."""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stnrot.errors import InputError

PLANNED = ("total_steps", "T_max")  # arguments, and entries of a state_dict, that hold the length of a schedule


def build_schedule(make: Any, optimizer: Optimizer, trainer: L.Trainer) -> dict[str, Any]:
    """Return the schedule as `configure_optimizers` hands it to Lightning.

    The schedule is stepped after every batch, `ReduceLROnPlateau` after every validation. A partial function may hold
    two keys more than its class has arguments: `interval=epoch` steps after every epoch, and `monitor` is the metric of
    `ReduceLROnPlateau`, `val/loss` without it.

    Args:
        make: builds the scheduler, see `build_scheduler`.
        optimizer: the optimizer of the run.
        trainer: gives the length of the run.

    Raises:
        InputError: if the scheduler cannot be built.
    """
    given = dict(make.keywords) if isinstance(make, partial) else {}
    plateau = isinstance(make, partial) and make.func is ReduceLROnPlateau
    entry: dict[str, Any] = {"interval": "epoch" if plateau else "step"}
    if plateau:
        entry |= {"monitor": "val/loss", "frequency": trainer.check_val_every_n_epoch or 1}
    if isinstance(make, partial):
        keys = {"interval", "monitor"} & given.keys() - inspect.signature(make.func).parameters.keys()
        entry |= {key: given.pop(key) for key in keys}
        make = partial(make.func, *make.args, **given)
    if entry["interval"] not in ("step", "epoch"):
        raise InputError(f"task.scheduler.interval={entry['interval']}: expected step or epoch")

    def length() -> int:
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        count = trainer.estimated_stepping_batches if entry["interval"] == "step" else epochs
        if not 0 < count < float("inf"):
            raise InputError(
                "task.scheduler needs the length of the run: set trainer.max_epochs or trainer.max_steps, or train "
                "without a schedule (task.scheduler=null)"
            )
        return int(count)

    return entry | {"scheduler": build_scheduler(make, optimizer, length)}


def build_scheduler(make: Any, optimizer: Optimizer, length: Callable[[], int]) -> Any:
    """Build a scheduler, and first those that `SequentialLR` and `ChainedScheduler` combine.

    Four arguments are filled in if the signature has them and `make` does not hold them: `max_lr` (the learning rate of
    each parameter group), `total_steps` and `T_max` (the length of the schedule), and `cycle_momentum` (false, if the
    optimizer has no momentum).

    Args:
        make: class or function of an optimizer and of these arguments, or a partial function of one.
        optimizer: the optimizer to schedule.
        length: returns the number of steps of the schedule; called only if an argument needs it.

    Raises:
        InputError: if the scheduler cannot be built.
    """
    if not callable(make):
        raise InputError(f"task.scheduler={make}: expected a class, such as torch.optim.lr_scheduler.OneCycleLR")
    given = dict(make.keywords) if isinstance(make, partial) else {}
    function = make.func if isinstance(make, partial) else make
    parameters = inspect.signature(function).parameters
    if given.get("schedulers"):
        lengths = _parts(given.get("milestones"), length, len(given["schedulers"]))
        given["schedulers"] = [
            build_scheduler(each, optimizer, part) for each, part in zip(given["schedulers"], lengths, strict=True)
        ]
    free = parameters.keys() - given.keys()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        free |= {"max_lr", "total_steps"} - given.keys()
    if "epochs" in given:  # OneCycleLR computes the total from it
        free -= {"total_steps"}
    if "max_lr" in free:
        given["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    for name in PLANNED:
        if name in free:
            given[name] = length()
    if "cycle_momentum" in free and not {"momentum", "betas"} & optimizer.defaults.keys():
        given["cycle_momentum"] = False
    try:
        named = "optimizer" in parameters  # `ChainedScheduler` has it last
        scheduler = function(**given, optimizer=optimizer) if named else function(optimizer, **given)
        scheduler.state_dict()  # LambdaLR cannot save a function that is not written in Python
    except Exception as error:  # torch and the user's own class raise many kinds
        raise InputError(
            f"task.scheduler: {function.__name__} cannot be built: {str(error) or type(error).__name__}; expected the "
            "options of this class"
        ) from error
    return scheduler


def _parts(milestones: Any, length: Callable[[], int], count: int) -> list[Callable[[], int]]:
    """Return the length of each part of a sequence; schedules that are chained all have the whole length."""
    if milestones is None or len(milestones) != count - 1:  # torch refuses a wrong number
        return [length] * count
    inner = [partial(int, end - start) for start, end in pairwise([0, *milestones])]
    return [*inner, lambda: max(1, length() - milestones[-1])]


def planned_lengths(state: dict[str, Any]) -> list[int]:
    """Return the lengths in the state of a scheduler, those of nested schedulers included."""
    inner = [length for each in state.get("_schedulers") or [] for length in planned_lengths(each)]
    return [state[name] for name in PLANNED if name in state] + inner


def plan_anew(scheduler: Any, optimizer: Optimizer, checkpoint: dict[str, Any]) -> str | None:
    """Replace the schedule in the checkpoint of a shorter or longer run by that of this run, at the same step.

    The scheduler takes the steps of the checkpoint again, so its learning rates are those of a run that was planned for
    this length from the start. A learning rate that had come down goes up again.

    Args:
        scheduler: of this run, just built.
        optimizer: of this run, just built.
        checkpoint: of the run to resume; its schedule and the learning rates of its optimizer are changed.

    Returns:
        What has changed, for the log; None if both runs have the same length.

    Raises:
        InputError: if the run to resume has more steps than this one.
    """
    (state,) = checkpoint["lr_schedulers"] or ({},)
    planned, now = planned_lengths(state), planned_lengths(scheduler.state_dict())
    if len(planned) != len(now) or planned == now:  # another class: torch refuses its state
        return None
    done, saved = _steps_taken(state), checkpoint["optimizer_states"][0]["param_groups"]
    if done > max(now):
        raise InputError(
            f"the run to resume has taken {done} steps, expected at most {max(now)}, as many as this run has: raise "
            "trainer.max_epochs"
        )
    before = saved[0]["lr"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*before `optimizer.step")
        for _ in range(done):
            scheduler.step()
    checkpoint["lr_schedulers"] = [scheduler.state_dict()]
    for group, old in zip(optimizer.param_groups, saved, strict=True):
        old |= {name: group[name] for name in ("lr", "betas", "momentum") if name in group}
    return (
        f"the schedule was planned for {max(planned)} steps, this run has {max(now)}: from step {done} on, the "
        f"learning rates are those of a run of {max(now)} steps ({saved[0]['lr']:.3g} instead of {before:.3g})"
    )


def _steps_taken(state: dict[str, Any]) -> int:
    return max([state.get("last_epoch", 0), *(_steps_taken(each) for each in state.get("_schedulers") or [])])
