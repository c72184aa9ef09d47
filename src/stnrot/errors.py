"""Errors that the user can correct. A command prints them in one line, without a traceback."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any


class InputError(ValueError):
    """A bad option, file or argument. The message says what was expected, what was given and what to do.

    A constructor begins its message with the name of the argument, `width=1: expected ...`. The commands put the path
    of the option in front, `model.encoder.width=1: expected ...`.
    """


def check_number(name: str, value: Any, low: float, high: float | None = None, whole: bool = True) -> None:
    """Raise InputError unless `value` is a finite number from `low` to `high`, both included.

    Args:
        name: argument that holds the value; it begins the message.
        high: None sets no upper limit.
        whole: accept integers only.
    """
    kind = Integral if whole else Real  # NumPy numbers too
    is_number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and low <= value and (high is None or value <= high):
        return
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise InputError(f"{name}={value}: expected a {'whole ' if whole else ''}number {span}")


@contextmanager
def needs_extra(what: str, extra: str = "train") -> Iterator[None]:
    """Import optional packages inside. If one is not installed, raise InputError with the command that installs it.

    Args:
        what: what needs the packages; it begins the message.
        extra: the extra of `stnrot` that brings them.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "stnrot"):
            raise  # a bug, not a light install
        raise InputError(
            f'{what} needs the package {missing}, which is not installed: pip install "stnrot[{extra}]"'
        ) from error
