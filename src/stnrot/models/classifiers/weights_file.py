"""Read the weights of a network from a file, without running code from it, and load them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from stnrot.errors import InputError, needs_extra
from stnrot.regular_file import check_regular
from stnrot.runs.checkpoint_file import read_archive

WRAPPED = ("state_dict", "model")  # keys under which training scripts save the weights
COUNTER = ".num_batches_tracked"  # of batch norm; old files lack it


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name. The file was written by safetensors, or by `torch.save`.

    Raises:
        InputError: if there is no such file, or it holds anything but tensors.
    """
    check_regular(path)
    if not path.is_file():
        raise InputError(f"weights={path}: expected a file of weights, .pth or .safetensors, found none")
    try:
        if path.suffix == ".safetensors":
            with needs_extra(f"weights={path}", "timm"):
                from safetensors.torch import load_file

            return load_file(path)
        if is_zipfile(path):  # as torch has written it since 1.6
            found: Any = read_archive(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # of the file system, pickle, torch or safetensors
        raise _unreadable(path, type(error).__name__) from error
    for key in WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise _unreadable(path, f"it holds {type(found).__name__}")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"weights={path} is not a file of weights ({reason}): expected tensors by name, the state_dict of the network, "
        "saved with torch.save or safetensors"
    )


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], heads: Sequence[str], source: str, unused: Sequence[str] = ()
) -> None:
    """Load weights into a network. Its heads keep their random weights if those given have another shape.

    Args:
        network: receives the weights.
        weights: tensors by name.
        heads: names of the last layers of the network.
        source: of the weights; it begins the message.
        unused: names of modules that the network lacks and the weights may have.

    Raises:
        InputError: names the first weight that is missing, surplus or of another shape.
    """
    own = network.state_dict()

    def within(name: str, modules: Sequence[str]) -> bool:
        return any(name.startswith(f"{module}.") for module in modules)

    given = {name: value for name, value in weights.items() if name in own or not within(name, [*heads, *unused])}
    fits = all(given[name].shape == own[name].shape for name in given if within(name, heads))
    if not fits:
        given = {name: value for name, value in given.items() if not within(name, heads)}
    for name in sorted(given.keys() | own.keys()):
        there, here = (None if name not in each else tuple(each[name].shape) for each in (given, own))
        if there != here and not (there is None and (within(name, heads) or name.endswith(COUNTER))):
            raise InputError(
                f"{source} are of another network: {name} has shape {there} there and {here} here; expected the "
                "state_dict of the network that `name` chooses"
            )
    network.load_state_dict(given, strict=False)
