"""Check the arguments of public functions against their annotations.

So an annotation such as `Float[Tensor, "B C H W"]` holds wherever the function is called, and a shape is written once.
"""

import inspect
import math
import threading
from collections.abc import Callable
from functools import wraps
from types import NoneType
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor

from stnrot.annotations import BOOL, DEVICE, WHOLE, Between, Rule, Sizes, rule_of
from stnrot.errors import LARGEST, InputError

P = ParamSpec("P")
T = TypeVar("T")
Class = TypeVar("Class", bound=type)

MOST_DIMS = 64  # of a tensor, in torch

Count = Annotated[int, Between(1)]
Natural = Annotated[int, Between(0)]
NonNegative = Annotated[float, Between(0)]
Positive = Annotated[float, Between(1e-6)]  # the square of its inverse is far from overflow


class _Call(threading.local):
    inside = False  # a checked function


_call = _Call()


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Raise InputError if an argument does not fit its annotation. The message names the argument.

    Checked are tensors, numbers, bools, literals, objects of a class, and tuples and unions of these; arguments of
    other types are not. Of a tensor the kind of its numbers, its shape, its layout (dense) and its device (one for all
    tensors) are checked, not its values. A name in a shape stands for the same size in all arguments. Dimensions of
    images and of R^d are never empty; others may be.

    Only the outermost call of a thread is checked: what a checked function passes on to another is the project's own.
    That costs about a microsecond for each argument. In a compiled graph nothing is checked.
    """
    hints, parameters = get_type_hints(function, include_extras=True), inspect.signature(function).parameters
    rules = {name: rule_of(hints[name]) for name in parameters if name in hints}
    method = "self" in parameters
    fits = [lambda value, sizes: True] * method + [rule.fits for rule in rules.values()]
    if any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        fits += fits[-1:] * MOST_DIMS  # `*batch: Natural`, the last one, holds for each of its arguments

    @wraps(function)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling() or _call.inside:
            return function(*args, **kwargs)
        sizes: Sizes = {}
        for fit, value in zip(fits, args, strict=False):
            if not fit(value, sizes):
                raise _misfit(rules, args[method:], kwargs)
        for name, value in kwargs.items():
            if name in rules and not rules[name].fits(value, sizes):
                raise _misfit(rules, args[method:], kwargs)
        _call.inside = True
        try:
            return function(*args, **kwargs)
        finally:
            _call.inside = False

    return with_checks


def checked_fields(cls: Class) -> Class:
    """Check the arguments of a class's constructor, such as the fields of a dataclass, see `checked`."""
    cls.__init__ = checked(cls.__init__)  # type: ignore[misc]
    return cls


def check_values(name: str, tensor: Tensor) -> None:
    """Raise InputError if a tensor has no values, as on the device `meta`."""
    if tensor.is_meta:
        raise InputError(f"{name}: expected a tensor with values, got {described(tensor)}")


def described(value: Any) -> str:
    """Describe a value in an error message: a tensor by type, layout and shape, anything else by type and value."""
    if isinstance(value, Tensor) and value.is_nested:  # it has no shape
        return f"a nested tensor of {value.dtype}"
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f"{value.layout} "
        return f"{layout}{value.dtype} of shape {list(value.shape)}" + (" without values" if value.is_meta else "")
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, bool | int | float | str | NoneType | np.generic):
        return repr(value)
    if isinstance(value, tuple | list):
        wrong = next((each for each in value if isinstance(each, float) and not math.isfinite(each)), None)
        return f"{type(value).__name__} of {len(value)}" + ("" if wrong is None else f" with {wrong}")
    return type(value).__name__


def _misfit(rules: dict[str, Rule], args: tuple[Any, ...], kwargs: dict[str, Any]) -> InputError:
    """Return the error about the first argument that does not fit."""
    sizes: Sizes = {}
    names = [*rules]
    for name, value in (*zip(names + names[-1:] * len(args), args, strict=False), *kwargs.items()):
        before = sizes.copy()
        if name in rules and not rules[name].fits(value, sizes):
            break
    expected = rules[name].expected(before)
    return InputError(f"{name}: expected {expected}, got {described(value)}{_advice(name, value, before, expected)}")


def _advice(name: str, value: Any, before: Sizes, expected: str) -> str:
    """Return the device of a tensor that is on another device than earlier ones, or the way to make a real tensor."""
    if not isinstance(value, Tensor):
        return "; torch.as_tensor converts it" if isinstance(value, np.ndarray) else ""
    if value.device != before.get(DEVICE, value.device):
        return f" on {value.device}"
    if value.dtype not in WHOLE | BOOL or "real numbers" not in expected:
        return ""
    if name in ("angle", "angles"):
        return "; torch.deg2rad converts degrees"
    return "; .float() / 255 converts bytes" if name in ("image", "images") else "; .float() converts it"
