"""Check the arguments of public functions against their annotations.

So an annotation such as `Float[Tensor, "B C H W"]` holds wherever the function is called, and a shape is written once.
"""

import inspect
import math
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import AbstractArray, Bool, Complex, Float, Int, Shaped
from torch import Tensor

from stnrot.errors import LARGEST, InputError

P = ParamSpec("P")
T = TypeVar("T")
Class = TypeVar("Class", bound=type)
Sizes = dict[str, Any]  # of the dimensions that have a name, and the device of the tensors

NEVER_EMPTY = frozenset(["C", "H", "W", "h", "w", "d", "A", "a"])  # names of dimensions that are at least 1
DEVICE = "device"
MOST_DIMS = 64  # of a tensor, in torch
WHOLE_NUMBERS = (int, np.integer)
NUMBERS = (int, float, np.integer, np.floating)
DTYPES = frozenset(each for each in vars(torch).values() if isinstance(each, torch.dtype))
REAL = frozenset(dtype for dtype in DTYPES if dtype.is_floating_point and dtype.itemsize > 1)  # none computes in 8 bits
COMPLEX = frozenset(dtype for dtype in DTYPES if dtype.is_complex and dtype.itemsize > 4)
BOOL = frozenset([torch.bool])
WHOLE = frozenset(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
KINDS: dict[Any, tuple[str, frozenset[torch.dtype]]] = {
    Float: ("real numbers", REAL),
    Complex: ("complex numbers", COMPLEX),
    Int: ("whole numbers", WHOLE),
    Bool: ("bools", BOOL),
    Shaped: ("numbers", DTYPES),
}


@dataclass(frozen=True)
class Between:
    """The limits of a number, both included, for `Annotated`."""

    low: float
    high: float = math.inf


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
    rules = {name: _rule(hints[name]) for name in parameters if name in hints}
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


def is_dense(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor that is neither sparse nor nested."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested


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


class _Rule:
    """What an annotation allows; here, anything."""

    def fits(self, value: Any, sizes: Sizes) -> bool:
        """Return whether a value is allowed. Add the sizes of its dimensions to `sizes`."""
        return True

    def expected(self, sizes: Sizes) -> str:
        """Return what is allowed, in words, given the sizes of earlier arguments."""
        return "anything"


class _Tensor(_Rule):
    """A jaxtyping annotation, such as `Float[Tensor, "B *#K 3"]`."""

    def __init__(self, annotation: Any) -> None:
        self.text = annotation.dim_str
        self.kind, self.dtypes = KINDS[annotation.dtype]
        names = ["*" if name == "..." else name for name in annotation.dim_str.split()]
        self.before = next((k for k, name in enumerate(names) if name.startswith("*")), len(names))
        self.several = names.pop(self.before) if self.before < len(names) else None  # any number of dimensions
        self.dims = [int(name) if name.isdigit() else name for name in names]

    def fits(self, value: Any, sizes: Sizes) -> bool:
        if not is_dense(value) or value.dtype not in self.dtypes:
            return False
        device, shape = value.device, value.shape
        if sizes.setdefault(DEVICE, device) != device:
            return False
        extra = len(shape) - len(self.dims)
        if extra < 0 or (extra and self.several is None):
            return False
        end = self.before + extra
        for dim, size in zip(self.dims, shape[: self.before] + shape[end:] if extra else shape, strict=True):
            if (dim if isinstance(dim, int) else sizes.setdefault(dim, size)) != size:
                return False
            if not size and dim in NEVER_EMPTY:
                return False
        return self.several in (None, "*") or self._fits_several(shape[self.before : end], sizes)

    def _fits_several(self, shape: torch.Size, sizes: Sizes) -> bool:
        assert self.several is not None
        name = self.several.replace("#", "")
        known = sizes.setdefault(name, shape)
        if name == self.several or known == shape:
            return bool(known == shape)
        try:
            sizes[name] = torch.broadcast_shapes(known, shape)
        except RuntimeError:
            return False
        return True

    def expected(self, sizes: Sizes) -> str:
        dims = self.text.replace("#", "").split()
        known = [f"{dim.lstrip('*')} = {_size(sizes[dim])}" for dim in dims if dim in sizes]
        place = f" on {sizes[DEVICE]}" if DEVICE in sizes else ""
        return f"a tensor [{', '.join(dims)}] of {self.kind}{place}" + (f" with {', '.join(known)}" if known else "")


def _size(size: Any) -> str:
    return str(size if isinstance(size, int) else list(size))


class _Number(_Rule):
    """`int` or `float`, with or without limits."""

    def __init__(self, whole: bool, limits: Between) -> None:
        self.whole, self.limits = whole, limits

    def fits(self, value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, WHOLE_NUMBERS if self.whole else NUMBERS) or isinstance(value, bool):
            return False
        if isinstance(value, int) and abs(value) > (LARGEST if self.whole else sys.float_info.max):
            return False  # torch cannot hold it
        return bool(self.limits.low <= value <= self.limits.high and -math.inf < value < math.inf)

    def expected(self, sizes: Sizes) -> str:
        low, high = self.limits.low, self.limits.high
        kind = "a whole number" if self.whole else "a finite number"
        if math.isfinite(high):
            return f"{kind} from {low} to {high}"
        return kind if math.isinf(low) else f"{kind} of at least {low}"


class _Sequence(_Rule):
    """A sequence of numbers, of any length: `Sequence[float]`."""

    def __init__(self, rule: _Rule) -> None:
        self.rule = rule

    def fits(self, value: Any, sizes: Sizes) -> bool:
        return isinstance(value, Sequence) and all(self.rule.fits(each, sizes) for each in value)

    def expected(self, sizes: Sizes) -> str:
        return f"a sequence, each {self.rule.expected(sizes)}"


class _Tuple(_Rule):
    """A tuple, or list, of numbers: `tuple[float, float]`."""

    def __init__(self, rules: list[_Rule]) -> None:
        self.rules = rules

    def fits(self, value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(self.rules):
            return False
        return all(rule.fits(each, sizes) for rule, each in zip(self.rules, value, strict=True))

    def expected(self, sizes: Sizes) -> str:
        return f"({', '.join(rule.expected(sizes) for rule in self.rules)})"


class _Object(_Rule):
    """An object of a class."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def fits(self, value: Any, sizes: Sizes) -> bool:
        if self.kind is torch.device and isinstance(value, str):
            try:
                value = torch.device(value)
            except RuntimeError:
                return False
        return isinstance(value, self.kind)

    def expected(self, sizes: Sizes) -> str:
        return "text" if self.kind is str else f"a {self.kind.__name__}"


class _OneOf(_Rule):
    """`Literal`, `bool` or None."""

    def __init__(self, *values: Any) -> None:
        self.values, self.types = values, {type(each) for each in values}

    def fits(self, value: Any, sizes: Sizes) -> bool:
        return type(value) in self.types and value in self.values

    def expected(self, sizes: Sizes) -> str:
        return f"{'one of ' if len(self.values) > 1 else ''}{', '.join(map(str, self.values))}"


class _Union(_Rule):
    def __init__(self, rules: list[_Rule]) -> None:
        self.rules = rules

    def fits(self, value: Any, sizes: Sizes) -> bool:
        for rule in self.rules:
            found = sizes.copy()
            if rule.fits(value, found):
                sizes.update(found)
                return True
        return False

    def expected(self, sizes: Sizes) -> str:
        return " or ".join(rule.expected(sizes) for rule in self.rules)


def _rule(hint: Any) -> _Rule:
    limits = Between(-math.inf)
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        limits = next((each for each in extra if isinstance(each, Between)), limits)
    if get_origin(hint) in (Union, UnionType):
        return _Union([_rule(each) for each in get_args(hint)])
    if get_origin(hint) is Literal:
        return _OneOf(*get_args(hint))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return _Tensor(hint)
    if get_origin(hint) is tuple:
        return _Tuple([_rule(each) for each in get_args(hint)])
    if get_origin(hint) is Sequence:
        return _Sequence(_rule(*get_args(hint)))
    if hint in (int, float):
        return _Number(hint is int, limits)
    if hint in (bool, NoneType):
        return _OneOf(*((True, False) if hint is bool else (None,)))
    if isinstance(hint, type) and get_origin(hint) is None and not getattr(hint, "_is_protocol", False):
        return _Object(hint)
    return _Rule()


def _misfit(rules: dict[str, _Rule], args: tuple[Any, ...], kwargs: dict[str, Any]) -> InputError:
    """Return the error about the first argument that does not fit."""
    sizes: Sizes = {}
    names = [*rules]
    for name, value in (*zip(names + names[-1:] * len(args), args, strict=False), *kwargs.items()):
        before = sizes.copy()
        if name in rules and not rules[name].fits(value, sizes):
            break
    got = described(value) + _advice(value, before)
    return InputError(f"{name}: expected {rules[name].expected(before)}, got {got}")


def _advice(value: Any, before: Sizes) -> str:
    """Return the device of a tensor that is on another device than earlier ones, or the way to make a real tensor."""
    if not isinstance(value, Tensor):
        return "; torch.as_tensor converts it" if isinstance(value, np.ndarray) else ""
    if value.device != before.get(DEVICE, value.device):
        return f" on {value.device}"
    return "; .float() converts it" if value.dtype in WHOLE | BOOL else ""
