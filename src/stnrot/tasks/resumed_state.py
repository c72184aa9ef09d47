"""Refuse the saved state of an optimizer or a schedule that does not fit: torch takes it, and fails in a step."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

SHAPED = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg"}  # like their weight


def check_optimizer_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Check a state before an optimizer loads it; torch calls it as a hook, and counts groups and weights itself.

    Raises:
        ValueError: if an option has another type, or the state of a weight another shape than the weight.
    """
    for group, other in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        for name in (group.keys() & other.keys()) - {"params"}:
            if not _alike(group[name], other[name]):
                raise ValueError(f"its optimizer has {name}={other[name]!r:.80}")
        for weight, key in zip(group["params"], other["params"], strict=False):
            for name, value in saved["state"].get(key, {}).items():
                shaped = isinstance(value, Tensor) and value.shape == weight.shape
                if (name in SHAPED and value is not None and not shaped) or (name == "step" and not _is_number(value)):
                    raise ValueError(f"its optimizer has a state {name} of another form than its weight")


def check_schedule_state(scheduler: Any, saved: Mapping[str, Any]) -> None:
    """Check a state before a scheduler takes its entries as attributes.

    Raises:
        ValueError: if an entry replaces a method, or has another type.
    """
    fresh = scheduler.state_dict()
    for name, value in saved.items():
        if callable(getattr(scheduler, str(name), None)) or not _alike(fresh.get(name), value):
            raise ValueError(f"its schedule has {name!r:.40}={value!r:.80}")


def _alike(fresh: Any, saved: Any) -> bool:
    """Return whether two values are both numbers, or of one type; None stands for any."""
    if fresh is None or saved is None or (_is_number(fresh) and _is_number(saved)):
        return True
    if isinstance(fresh, list | tuple):
        same = isinstance(saved, list | tuple) and len(fresh) == len(saved)
        return same and all(map(_alike, fresh, saved))
    return isinstance(saved, type(fresh))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
