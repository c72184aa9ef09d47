"""Keep tensors that depend on sizes and options alone, such as grids, so that not every step computes them again."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import partial, wraps
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T", bound=Tensor | tuple[Tensor, ...])

# Of the constants of one function. Beyond it, the oldest are dropped.
MOST, MOST_BYTES = 1024, 96 * 2**20

_kept: dict[Callable[..., Any], dict[Hashable, Any]] = {}


def constant(function: Callable[P, T]) -> Callable[P, T]:
    """Keep the tensors that a function returns, and return the same tensors at the next call with equal arguments.

    The function must depend on its arguments alone. They are hashable: sizes, options, and always the dtype and the
    device of a tensor, which for a GPU has its number. It returns a tensor or a tuple of tensors. **No caller may write
    into the result.**

    In a graph that is compiled or exported, and with fake tensors, nothing is kept: the function is called, and the
    graph contains its operations. Record a CUDA graph after a first step, as always, so that all constants exist.

    >>> @constant
    ... def steps(count: int, device: torch.device) -> Tensor:
    ...     return torch.arange(count, device=device)
    >>> steps(3, torch.device("cpu")) is steps(3, torch.device("cpu"))
    True
    """

    store = _kept.setdefault(function, {})

    @wraps(function)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        # an empty tensor has the type that a mode, such as that of fake tensors, gives to new tensors
        if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
            return function(*args, **kwargs)
        key = (args, *kwargs.items())
        found = store.get(key)
        if found is None:
            found = _made(partial(function, *args, **kwargs))
            _keep(store, key, found)
        return found

    return kept


@constant
def counting(count: int, device: torch.device, dtype: torch.dtype = torch.int64) -> Shaped[Tensor, "{count}"]:
    """Return the numbers 0 ... count - 1."""
    return torch.arange(count, device=device, dtype=dtype)


@constant
def offsets(reach: int, device: torch.device) -> Int[Tensor, "2*{reach}+1"]:
    """Return the numbers -reach ... reach."""
    return torch.arange(-reach, reach + 1, device=device)


@constant
def identity(dim: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{dim} {dim}"]:
    """Return the identity matrix."""
    return torch.eye(dim, device=device, dtype=dtype)


@constant
def vector(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Float[Tensor, "n"]:
    """Return numbers as a tensor."""
    return torch.tensor(values, device=device, dtype=dtype)


def _made(function: Callable[[], T]) -> T:
    """Call the function in a new thread, in which no mode and no context of the caller holds.

    A tensor that is made in inference mode cannot be used in training. One that is made under a transformation of
    `torch.func` is invalid after it.
    """

    done = Future[T]()

    def make() -> None:
        try:
            made = function()
            for each in _tensors(made):
                if not (each.is_cpu or each.is_meta):
                    each.flatten()[:1].cpu()  # waits until it is computed, because the caller may use another stream
            done.set_result(made)
        except BaseException as error:
            done.set_exception(error)

    thread = Thread(target=make)  # an executor starts no thread while the interpreter waits for the last threads
    thread.start()
    thread.join()
    return done.result()


def _keep(store: dict[Hashable, Any], key: Hashable, made: Any) -> None:
    """Keep tensors, and drop the oldest beyond the limits. Each step is atomic, so threads need no lock."""
    if _size(made) > MOST_BYTES:
        return
    store[key] = made
    count, total = len(store), sum(map(_size, list(store.values())))
    for old in list(store):
        if count <= MOST and total <= MOST_BYTES:
            break
        count, total = count - 1, total - _size(store.pop(old, ()))


def _tensors(made: Any) -> tuple[Tensor, ...]:
    return (made,) if isinstance(made, Tensor) else made


def _size(made: Any) -> int:
    return sum(each.nbytes for each in _tensors(made))
