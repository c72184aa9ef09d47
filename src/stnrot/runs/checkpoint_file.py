"""Read the file of a checkpoint from anyone: no code of it runs, and it takes no more memory than its size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

from stnrot.errors import InputError

MOST_VALUES, DEEPEST = 100_000, 64  # of a configuration, which has the names of all classes
MOST_SAVED = 10_000_000  # of a training, which has 2,000 for each process, and some for each weight
MOST_BUILT = 2_000  # values of the model, and of the task; those of `configs/` have some 50
PLAIN = (str, int, float, bool, type(None))


def read_archive(path: Path | str) -> Any:
    """Load what `torch.save` wrote, onto the CPU.

    The file is mapped into memory. So a tensor cannot be larger than the file, or reach beyond its end.

    Raises:
        Exception: of almost any kind, if the file is broken.
    """
    check_stored(path)
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)


def check_stored(path: Path | str) -> None:
    """Raise ValueError if an archive is compressed: a small file could ask for any amount of memory."""
    with ZipFile(path) as archive:
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise ValueError("its archive is compressed")


def check_config(config: Any, path: Path | str) -> None:
    """Raise InputError unless a configuration is a tree of moderate size, of dictionaries, lists and plain values.

    A pickle can hold a list that contains itself, or one that holds another ten times, and that again another.
    """
    _check_tree(config, MOST_VALUES, path)
    for section in ("model", "task") if isinstance(config, Mapping) else ():
        _check_tree(config.get(section), MOST_BUILT, path)


def check_training(state: Any, path: Path | str) -> None:
    """Raise InputError unless the state of a training is such a tree.

    It may also hold tensors, as `check_weights` asks for, and what else callbacks save.
    """
    _check_tree(state, MOST_SAVED, path, tensors=True)


def _check_tree(tree: Any, most: int, path: Path | str, tensors: bool = False) -> None:
    values, rest = 0, [(tree, 0)]
    while rest:
        node, depth = rest.pop()
        values += 1
        if isinstance(node, Mapping):
            inside = [*node.keys(), *node.values()]
        elif isinstance(node, list | tuple):
            inside = list(node)
        else:
            inside = []
            is_tensor = tensors and isinstance(node, Tensor)
            if not (_is_dense(node) if is_tensor else tensors or type(node) in PLAIN):
                raise _not_written(path, f"a value of the type {type(node).__name__}")
        if values + len(rest) + len(inside) > most or depth > DEEPEST:
            raise _not_written(path, f"more than {most:,} values, or more than {DEEPEST} levels")
        rest += [(each, depth + 1) for each in inside]


def check_weights(weights: Any, path: Path | str) -> None:
    """Raise InputError unless weights are dense tensors by name that hold each of their values.

    A tensor can also be one value that is repeated: a small file could ask for any amount of memory.
    """
    if not isinstance(weights, Mapping):
        raise _not_written(path, f"weights of the type {type(weights).__name__}")
    for name, value in weights.items():
        if not isinstance(name, str) or not _is_dense(value):
            raise _not_written(path, f"{name!r:.80} among its weights")


def _is_dense(value: Any) -> bool:
    """Return whether a value is a tensor that holds each of its values."""
    dense = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return dense and not value.is_quantized and value.nbytes <= _stored(value)


def bytes_of(weights: Mapping[str, Tensor]) -> int:
    """Return the size of the weights; those that share their memory count once."""
    return sum({value.untyped_storage().data_ptr(): _stored(value) for value in weights.values()}.values())


def _stored(value: Tensor) -> int:
    return value.untyped_storage().nbytes()


def _not_written(path: Path | str, found: str) -> InputError:
    return InputError(f"{path} holds {found}, which train.py does not write: expected a run's best.ckpt or last.ckpt")
