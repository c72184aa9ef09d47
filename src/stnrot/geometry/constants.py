"""Keep tensors that depend on sizes and options alone, such as grids, so that not every step computes them again."""

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T", bound=Tensor | tuple[Tensor, ...])

MOST_BYTES = 64 * 2**20  # of all constants that are kept; beyond it, the oldest are dropped
LARGEST = MOST_BYTES // 4  # bytes of one constant; a larger one is computed at each call
MOST = 1024  # constants

_kept: dict[Hashable, Any] = {}


def constant(function: Callable[P, T]) -> Callable[P, T]:
    """Keep the tensors that a function returns, and return the same tensors at the next call with equal arguments.

    The function must depend on its arguments alone. They are hashable: sizes, options, and always the device and the
    dtype. It returns a tensor or a tuple of tensors. **No caller may write into the result.**

    In a graph that is compiled or exported, and with fake tensors, nothing is kept: the function is called, and the
    graph contains its operations. Record a CUDA graph after a first step, as always, so that all constants exist.

    >>> @constant
    ... def steps(count: int, device: torch.device) -> Tensor:
    ...     return torch.arange(count, device=device)
    >>> steps(3, torch.device("cpu")) is steps(3, torch.device("cpu"))
    True
    """

    @wraps(function)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        # an empty tensor has the type that a mode, such as that of fake tensors, gives to new tensors
        if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
            return function(*args, **kwargs)
        key = (function, args, *kwargs.items())
        found = _kept.get(key)
        if found is None:
            found = _made(partial(function, *args, **kwargs))
            _keep(key, found)
        return found

    return kept


def _made(function: Callable[[], T]) -> T:
    """Call the function in a new thread, in which no mode and no context of the caller holds.

    A tensor that is made in inference mode cannot be used in training. One that is made under a transformation of
    `torch.func` is invalid after it.
    """

    def make() -> T:
        made = function()
        for each in _tensors(made):
            if not (each.is_cpu or each.is_meta):
                each.flatten()[:1].cpu()  # waits until it is computed, because the caller may use another stream
        return made

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def _keep(key: Hashable, made: Any) -> None:
    """Keep tensors, and drop the oldest beyond the limits. Each step is atomic, so threads need no lock."""
    if _size(made) > LARGEST:
        return
    _kept[key] = made
    count, total = len(_kept), sum(map(_size, list(_kept.values())))
    for old in list(_kept):
        if count <= MOST and total <= MOST_BYTES:
            break
        dropped = _kept.pop(old, ())
        count, total = count - 1, total - _size(dropped)


def _tensors(made: Any) -> tuple[Tensor, ...]:
    return (made,) if isinstance(made, Tensor) else made


def _size(made: Any) -> int:
    return sum(each.nbytes for each in _tensors(made))
