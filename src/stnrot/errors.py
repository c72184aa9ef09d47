"""What the person at the keyboard can put right: the commands print it as one line, without a stack."""

import math
from typing import Any


class InputError(ValueError):
    """A bad configuration, file or argument: says what was expected, what came, and what to do."""


def check_number(name: str, value: Any, low: float, high: float | None = None, whole: bool = True) -> None:
    """Raise InputError unless `value` is a finite number, and a whole one, from `low` to `high`."""
    kind = int if whole else (int, float)
    known = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if known and low <= value and (high is None or value <= high):
        return
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise InputError(f"{name}={value}: expected a {'whole ' if whole else ''}number {span}")
