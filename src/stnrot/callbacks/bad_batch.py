"""Save the batches of a step that failed, as plain data."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stnrot.runs.atomic_write import atomic_write


def sample_indices(batches: Sequence[Any]) -> list[int]:
    """Return the places of the samples of some batches in their set; none if the batches do not have them."""
    found = [getattr(batch, "index", None) for batch in batches]  # a tuple has a method of this name
    return [k for index in found if isinstance(index, Tensor) for k in index.tolist()]


def save_batches(path: Path, facts: dict[str, Any], batches: Sequence[Any]) -> None:
    """Write facts and batches to a file that `torch.load` reads with `weights_only=True`: reading it runs no code.

    A batch is saved as its fields, tensors on the CPU, by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new, new.open("wb") as file:
        torch.save(facts | {"batches": [_plain(batch) for batch in batches]}, file)


def _plain(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.detach().cpu()
    if is_dataclass(batch):
        return {each.name: _plain(getattr(batch, each.name)) for each in fields(batch)}
    if isinstance(batch, dict):
        return {str(name): _plain(value) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_plain(each) for each in batch]
    return batch if isinstance(batch, str | int | float | bool | None) else repr(batch)
