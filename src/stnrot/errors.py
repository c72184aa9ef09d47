"""Errors that the user can correct. A command prints them in one line, without a traceback."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

LARGEST = 2**63 - 1  # the largest whole number of a tensor
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)  # a path that this user cannot use
FULL = (errno.ENOSPC, errno.EDQUOT)  # numbers of errors: the disk is full, or what a user may store on it


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
    if high is None and isinstance(value, Integral) and int(value) > LARGEST:
        high = LARGEST
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if is_number and low <= value < math.inf and (high is None or value <= high):
        return
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise InputError(f"{name}={value}: expected a {'whole ' if whole else ''}number {span}")


def check_choice(name: str, value: Any, *choices: str | int | bool | None) -> None:
    """Raise InputError unless `value` is one of several choices, and of the same type.

    Args:
        name: argument that holds the value; it begins the message.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        words = [{"None": "null", "True": "true", "False": "false"}.get(str(choice), str(choice)) for choice in choices]
        raise InputError(f"{name}={value}: expected {', '.join(words[:-1])} or {words[-1]}")


def reason_of(error: BaseException) -> str:
    r"""Return the first line of the message of an error, or its type if it has none.

    >>> reason_of(OSError("no space left\nsee the log")), reason_of(KeyError())
    ('no space left', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
