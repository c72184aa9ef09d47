"""Build a model within a limit of memory: each operation is refused before it asks for more."""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from stnrot.errors import InputError

FREE = 2**28  # bytes that every model may take while it is built
TIMES = 8  # and how often the size of the weights: their initial values are computed in several steps
OPERATIONS, PER_WEIGHT = 10_000, 100  # a model of very many tiny layers takes time instead of memory


class MemoryLimit(TorchDispatchMode):
    """Raise InputError before an operation if all results together would be far larger than the weights of the model.

    The size of a result is computed on torch's device `meta`, which has shapes alone.

    Args:
        stored: size of the weights in bytes.
        count: number of the weights.
    """

    def __init__(self, stored: int, count: int) -> None:
        super().__init__()
        self.stored = stored
        self.left, self.operations = FREE + TIMES * stored, OPERATIONS + PER_WEIGHT * count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, unless it asks for too much."""
        kwargs = kwargs or {}
        self.operations -= 1
        self.left -= _asked(func, args, kwargs)
        if self.left < 0 or self.operations < 0:
            raise InputError(
                f"its configuration builds a far larger model than the {self.stored:,} bytes of weights that it holds: "
                "expected the configuration of the same model"
            )
        return func(*args, **kwargs)


def _asked(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Return how many bytes an operation asks for; 0 if it writes to tensors that exist."""
    if func is torch.ops.aten.resize_.default:
        return args[0].element_size() * prod(args[1])
    if func.is_view or func._schema.is_mutable:
        return 0
    given = {"device": "meta"} if any(each.name == "device" for each in func._schema.arguments) else {}
    try:
        found = func(*tree_map(_on_meta, args), **(tree_map(_on_meta, kwargs) | given))
    except Exception:  # its shape depends on values, so it is about as large as they are; or it fails, then and now
        return 0
    return sum(each.nbytes for each in tree_leaves(found) if isinstance(each, Tensor))


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
