"""What an annotation allows as a value: a tensor, a number, one of some values, or a union of these."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import numpy as np
import torch
from jaxtyping import AbstractArray, Bool, Complex, Float, Int, Shaped
from torch import Tensor

from stnrot.errors import LARGEST

Sizes = dict[str, Any]  # of the dimensions that have a name, and the device of the tensors

NEVER_EMPTY = frozenset(["C", "H", "W", "h", "w", "d", "A", "a"])  # names of dimensions that are at least 1
DEVICE = "device"
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


def is_dense(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor that is neither sparse nor nested."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested


class Rule:
    """What an annotation allows. This base class allows anything."""

    def fits(self, value: Any, sizes: Sizes) -> bool:
        """Return whether a value is allowed. Add the sizes of its dimensions to `sizes`."""
        return True

    def expected(self, sizes: Sizes) -> str:
        """Return what is allowed, in words, given the sizes of earlier arguments."""
        return "anything"


class _Tensor(Rule):
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
            sizes[name] = np.broadcast_shapes(known, shape)  # that of torch imports its compiler: half a second
        except ValueError:
            return False
        return True

    def expected(self, sizes: Sizes) -> str:
        dims = self.text.replace("#", "").split()
        known = [f"{dim.lstrip('*')} = {_size(sizes[dim])}" for dim in dims if dim in sizes]
        place = f" on {sizes[DEVICE]}" if DEVICE in sizes else ""
        return f"a tensor [{', '.join(dims)}] of {self.kind}{place}" + (f" with {', '.join(known)}" if known else "")


def _size(size: Any) -> str:
    return str(size if isinstance(size, int) else list(size))


class _Number(Rule):
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


class _Sequence(Rule):
    """A sequence of numbers, of any length: `Sequence[float]`."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def fits(self, value: Any, sizes: Sizes) -> bool:
        return isinstance(value, Sequence) and all(self.rule.fits(each, sizes) for each in value)

    def expected(self, sizes: Sizes) -> str:
        return f"a sequence, each {self.rule.expected(sizes)}"


class _Tuple(Rule):
    """A tuple, or list, of numbers: `tuple[float, float]`."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules

    def fits(self, value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(self.rules):
            return False
        return all(rule.fits(each, sizes) for rule, each in zip(self.rules, value, strict=True))

    def expected(self, sizes: Sizes) -> str:
        return f"({', '.join(rule.expected(sizes) for rule in self.rules)})"


class _Object(Rule):
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


class _OneOf(Rule):
    """`Literal`, `bool` or None."""

    def __init__(self, *values: Any) -> None:
        self.values, self.types = values, {type(each) for each in values}

    def fits(self, value: Any, sizes: Sizes) -> bool:
        return type(value) in self.types and value in self.values

    def expected(self, sizes: Sizes) -> str:
        return f"{'one of ' if len(self.values) > 1 else ''}{', '.join(map(str, self.values))}"


class _Union(Rule):
    def __init__(self, rules: list[Rule]) -> None:
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


def rule_of(hint: Any) -> Rule:
    """Return the rule of an annotation; of one that is not known here, a rule that allows anything."""
    limits = Between(-math.inf)
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        limits = next((each for each in extra if isinstance(each, Between)), limits)
    if get_origin(hint) in (Union, UnionType):
        return _Union([rule_of(each) for each in get_args(hint)])
    if get_origin(hint) is Literal:
        return _OneOf(*get_args(hint))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return _Tensor(hint)
    if get_origin(hint) is tuple:
        return _Tuple([rule_of(each) for each in get_args(hint)])
    if get_origin(hint) is Sequence:
        return _Sequence(rule_of(*get_args(hint)))
    if hint in (int, float):
        return _Number(hint is int, limits)
    if hint in (bool, NoneType):
        return _OneOf(*((True, False) if hint is bool else (None,)))
    is_class = isinstance(hint, type) and get_origin(hint) is None and hint is not Any  # `Any` is one in Python 3.11
    if is_class and not getattr(hint, "_is_protocol", False):
        return _Object(hint)
    return Rule()
