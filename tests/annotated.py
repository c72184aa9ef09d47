"""Draw arguments of a function, right and wrong, from its annotations, and judge whether they fit them.

jaxtyping judges the shapes, so the judgement does not depend on `stnrot.arguments`.
"""

import math
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from hypothesis import strategies as st
from jaxtyping import AbstractArray, Float, jaxtyped
from torch import Tensor

from stnrot.annotations import Between

NEVER_EMPTY = set("CHWhwdAa")
REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
COMPLEX = (torch.complex128, torch.complex64)
LAYOUTS = ("dense", "dense", "transposed", "expanded", "sliced", "channels_last", "leaf")
SPECIAL = (None,) * 9 + (math.nan, math.inf, -math.inf)
SCALES = (1.0,) * 6 + (1e-30, 1e30)
MISSHAPED = ("longer", "empty", "extra", "missing")
Draw = Callable[[st.SearchStrategy], Any]
Values = Callable[[Tensor], Tensor]


class Arguments:
    """Random arguments that fit their annotations. `spoil` makes one of them wrong, in most cases.

    Args:
        draw: draws from a strategy.
        hints: annotation of each argument.
        sizes: of dimensions that depend on other arguments.
        given: arguments that are drawn already.
        others: strategies of arguments that the annotation does not describe.
        values: turns standard normal numbers of a tensor into what the function expects, such as rotations.
    """

    def __init__(
        self,
        draw: Draw,
        hints: dict[str, Any],
        sizes: dict[str, int],
        given: dict[str, Any],
        others: dict[str, st.SearchStrategy],
        values: dict[str, Values],
    ) -> None:
        self.draw, self.hints, self.sizes, self.values = draw, hints, dict(sizes), values
        self.device = draw(st.sampled_from(["cpu"] * 6 + ["meta"]))
        self.dtype = draw(st.sampled_from(range(4)))
        self.special, self.scale = draw(st.sampled_from(SPECIAL)), draw(st.sampled_from(SCALES))
        self.misfit: str | None = None  # an argument of a wrong kind
        self.by_name = {
            name: given[name] if name in given else draw(others[name]) if name in others else self.right(name, hint)
            for name, hint in hints.items()
        }

    def right(self, name: str, hint: Any) -> Any:
        """Draw an argument that fits its annotation."""
        draw, limits = self.draw, Between(-4)
        if get_origin(hint) is Annotated:
            hint, limits = get_args(hint)[:2]
        if get_origin(hint) in (Union, UnionType):
            return self.right(name, draw(st.sampled_from(get_args(hint))))
        if get_origin(hint) is Literal:
            return draw(st.sampled_from(get_args(hint)))
        if get_origin(hint) is tuple:
            return tuple(self.right(name, each) for each in get_args(hint))
        if get_origin(hint) is Sequence:
            return [self.right(name, *get_args(hint)) for _ in range(draw(st.integers(1, 4)))]
        if isinstance(hint, type) and issubclass(hint, AbstractArray):
            return self.tensor(name, hint, [self.size(each) for each in hint.dim_str.split()])
        if hint is int:
            number = draw(st.integers(limits.low, int(min(limits.high, limits.low + 8))))
            return draw(st.sampled_from([number, np.int64(number)]))
        if hint is float:
            number = draw(st.floats(limits.low, min(limits.high, limits.low + 8)))
            return draw(st.sampled_from([number, np.float64(number)]))
        assert hint in (bool, NoneType), hint
        return draw(st.booleans()) if hint is bool else None

    def size(self, dim: str) -> tuple[int, ...]:
        """Draw the size of a dimension, or the sizes of several."""
        draw, name = self.draw, dim.replace("#", "")
        if dim.isdigit():
            return (int(dim),)
        if name not in self.sizes:
            few = [1, 2, 3, 4, 5] if name in NEVER_EMPTY else [0, 1, 2, 3]
            several = [(), (2,), (3,), (1, 3), (2, 2), (0,), (2, 0)]
            self.sizes[name] = draw(st.sampled_from(several if name.startswith("*") else few))
        size = self.sizes[name]
        if "#" in dim:  # a part of the dimensions, each of the common size or 1
            part = size[draw(st.integers(0, len(size))) :]
            return tuple(each if draw(st.booleans()) else 1 for each in part)
        return size if isinstance(size, tuple) else (size,)

    def tensor(self, name: str, hint: Any, dims: list[tuple[int, ...]]) -> Tensor:
        """Draw a tensor: its numbers, type, layout in memory and device."""
        draw, shape = self.draw, [n for dim in dims for n in dim]
        numbers, real = torch.Generator().manual_seed(draw(st.integers(0, 2**16))), hint.dtype is Float
        x = torch.randn(shape, dtype=torch.float64 if real else torch.complex128, generator=numbers)
        layout = draw(st.sampled_from(LAYOUTS))
        if layout == "expanded" and len(shape) > 2 and shape[0]:
            x = x[:1].expand(shape)
        if name in self.values:
            x = self.values[name](x)
        dtype = draw(st.sampled_from(range(4))) if draw(st.integers(0, 3)) == 0 else self.dtype
        x = x.to((REAL if real else COMPLEX)[dtype % (4 if real else 2)])
        if name not in self.values and torch.finfo(x.dtype).max > 1e35:
            x = x * self.scale
        if self.special is not None and x.numel() and draw(st.booleans()):
            x = x.contiguous().clone()
            x.view(-1)[draw(st.integers(0, x.numel() - 1))] = self.special
        if layout == "transposed" and len(shape) > 1:
            x = x.mT.contiguous().mT
        elif layout == "sliced" and shape:
            x = torch.stack((x, torch.full_like(x, 7)), -1).flatten(-2)[..., ::2]
        elif layout == "channels_last" and len(shape) == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        elif layout == "leaf":
            x = x.clone().requires_grad_()
        return x.to(self.device)

    def spoil(self, except_for: str) -> None:
        """Replace one argument by one that does not fit, in most cases."""
        draw = self.draw
        name = draw(st.sampled_from(sorted(self.by_name.keys() - {except_for})))
        value = self.by_name[name]
        if isinstance(value, Tensor) and draw(st.booleans()):
            self.by_name[name] = _misshaped(value, draw(st.sampled_from(MISSHAPED)), draw(st.integers(0, 3)))
            return
        kinds: list[Any] = [None, "text", True, False, -1, 0, 2.5, math.nan, math.inf, (1.0, 2.0), (1, "a"), 1j]
        if isinstance(value, Tensor):
            elsewhere = "cpu" if self.device == "meta" else "meta"
            kinds = [None, "text", 2.5, [1.0], np.ones(tuple(value.shape))]
            if len(self.tensors()) > 1:
                kinds.append(torch.ones(value.shape, device=elsewhere))
            for dtype in (torch.int64, torch.bool, torch.uint8, torch.complex64, torch.float64, torch.float8_e5m2):
                kinds.append(value.detach().real.to(dtype))
            if self.device == "cpu":
                kinds.append(value.detach().to_sparse())
        self.by_name[name] = draw(st.sampled_from(kinds))
        if not fits(self.hints[name], self.by_name[name], {}):
            self.misfit = name

    def fit(self) -> bool:
        """Return whether all arguments fit their annotations together."""
        known: dict[str, Any] = {}
        with jaxtyped("context"):
            return all(fits(hint, self.by_name[name], known) for name, hint in self.hints.items())

    def tensors(self) -> list[Tensor]:
        """Return the tensors among the arguments."""
        return [each for each in self.by_name.values() if isinstance(each, Tensor)]


def _misshaped(x: Tensor, how: str, dim: int) -> Tensor:
    if how == "extra":
        return x[None].expand(2, *x.shape)
    if not x.ndim:
        return x
    dim %= x.ndim
    if how == "longer":
        return torch.cat((x, x.narrow(dim, 0, min(1, x.shape[dim]))), dim)
    return x.narrow(dim, 0, 0) if how == "empty" else x.sum(dim)


def fits(hint: Any, value: Any, known: dict[str, Any]) -> bool:
    """Return whether a value fits an annotation. `known` holds the device of earlier tensors."""
    limits = Between(-math.inf)
    if get_origin(hint) is Annotated:
        hint, limits = get_args(hint)[:2]
    if get_origin(hint) in (Union, UnionType):
        return any(fits(each, value, known) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) in (tuple, Sequence):
        if not isinstance(value, tuple | list):
            return False
        parts = get_args(hint) if get_origin(hint) is tuple else get_args(hint) * len(value)
        return len(parts) == len(value) and all(map(fits, parts, value, [known] * len(parts)))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        if not (isinstance(value, Tensor) and value.layout == torch.strided and isinstance(value, hint)):
            return False
        if value.dtype not in REAL + COMPLEX or known.setdefault("device", value.device) != value.device:
            return False
        dims = hint.dim_str.split()
        split = next((k for k, dim in enumerate(dims) if dim.startswith("*")), len(dims))
        after = dims[split + 1 :]
        named = [*zip(dims[:split], value.shape, strict=False)]
        named += [*zip(after, value.shape[value.ndim - len(after) :], strict=True)]
        return all(size or dim not in NEVER_EMPTY for dim, size in named)
    if hint in (int, float):
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        whole = hint is float or isinstance(value, int | np.integer)
        return bool(number and whole and math.isfinite(value) and limits.low <= value <= limits.high)
    if hint is torch.device:
        return isinstance(value, torch.device)
    return isinstance(value, hint)
