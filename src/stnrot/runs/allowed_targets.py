"""Which code a checkpoint may name. A checkpoint can come from anyone, and building a class of its choice runs code.

| part of the configuration | what is built by default |
|---|---|
| model, task | classes of `stnrot.models`, `.layers`, `.tasks` and `.geometry`; modules of `torch.nn`, `torchvision.models`, `torchvision.ops` and `timm.models`; the builders of `torchvision.models`; nothing that reads or downloads pretrained weights, see `without_weights` |
| data | classes of `stnrot.data` and `stnrot.geometry`; the functions of `stnrot.data.sources` |

Everything else is built only if the user names its package in `trust`. Of a trusted package, the classes and functions
that it defines itself are allowed, but not those that it imports. A package is imported only after this check.
"""  # noqa: E501

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from stnrot.errors import InputError

Part = Literal["model", "data"]
OURS: dict[Part, tuple[str, ...]] = {
    "model": ("stnrot.models", "stnrot.layers", "stnrot.tasks", "stnrot.geometry"),
    "data": ("stnrot.data", "stnrot.geometry"),
}
MODULES = {  # path: where defined
    "torch.nn": ("torch.nn.modules",),
    "torchvision.models": (),
    "torchvision.ops": (),
    "timm.models": (),
}
KNOWN = "torch.nn, torchvision.models or timm.models"
WEIGHTS = {"pretrained": False, "weights": None}  # of `stnrot.models.classifiers`: nothing is read or downloaded
NEVER = sys.stdlib_module_names | {"torch", "stnrot"}  # no package of networks
ASK = "add trust={0}"


def check_targets(config: Any, part: Part = "model", trust: Iterable[str] | str = (), ask: str = ASK) -> None:
    """Raise InputError if a configuration would build anything that is not allowed.

    Args:
        config: a part of the configuration of a checkpoint, before it is built.
        part: which of the two parts it is.
        trust: packages whose own classes and functions are allowed too.
        ask: what the user types to trust a package, with {0} for its name.
    """
    packages = _trusted(trust)
    try:
        given = config if isinstance(config, DictConfig | ListConfig) else OmegaConf.create(config)
        plain = OmegaConf.to_container(given)  # exactly what is built: it makes lists of tuples, for instance
    except (OmegaConfBaseException, ValueError) as error:
        raise InputError(f"the configuration of the checkpoint has a value that is not plain ({error})") from error
    _check(plain, part, packages, ask)


def without_weights(config: Any) -> Any:
    """Return a plain configuration whose classifiers neither read nor download pretrained weights.

    A checkpoint holds all weights of its model. So its configuration needs no others, and must not choose what is read.
    """
    if isinstance(config, list | tuple):
        return [without_weights(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: without_weights(value) for key, value in config.items()}
    ours = _within(found.get("_target_"), "stnrot.models.classifiers")
    return found | {key: value for key, value in WEIGHTS.items() if ours and key in found}


def _trusted(trust: Any) -> list[str]:
    if not isinstance(trust, Iterable):
        raise InputError(f"trust={trust}: expected the name of a package, such as my_package, or a list of names")
    packages = [trust] if isinstance(trust, str) else list(trust)
    for package in packages:
        if not (isinstance(package, str) and all(map(str.isidentifier, package.split(".")))):
            raise InputError(f"trust={package!r}: expected the name of a package, such as my_package")
        if package.partition(".")[0] in NEVER:
            raise InputError(f"trust={package}: expected a package of your own or of others that defines networks")
    return packages


def _check(node: Any, part: Part, packages: Sequence[str], ask: str) -> None:
    if isinstance(node, list):
        for item in node:
            _check(item, part, packages, ask)
    elif isinstance(node, str) and "${" in node:
        raise InputError(f"the configuration of the checkpoint has {node!r}: expected plain values")
    elif isinstance(node, dict):
        if "_target_" in node:
            _check_target(node, part, packages, ask)
        for item in node.values():
            _check(item, part, packages, ask)


def _check_target(node: Mapping[str, Any], part: Part, packages: Sequence[str], ask: str) -> None:
    target = node["_target_"]
    inside = [package for package in packages if _within(target, package)]
    ours = _within(target, "stnrot")
    known = part == "model" and any(_within(target, package) for package in MODULES)
    found = _find(target) if inside or ours or known else None
    if inside and _is_defined_in(found, inside):
        return
    if ours and _is_ours(found, target, part) and not any(map(node.get, WEIGHTS)):
        return
    if known and (_is_module(found) or _is_builder(found, node)):
        return
    package = str(target).partition(".")[0]
    shown = str(target) if str(target).isprintable() else repr(target)
    reason = f"the configuration of the checkpoint builds {shown:.100}, which is not part of stnrot {version('stnrot')}"
    if inside:
        raise InputError(
            f"{reason} and not a class or function that {package} itself defines; trust the package that defines it"
        )
    if package in NEVER or not str(target).replace(".", "").isidentifier():
        raise InputError(f"{reason}, {KNOWN}: expected a checkpoint of train.py without it")
    raise InputError(
        f"{reason}, {KNOWN}{' without weights' if known else ''}: to run code of {package} with your "
        f"permissions, {ask.format(package)}"
    )


def _within(target: Any, package: str) -> bool:
    return isinstance(target, str) and target.startswith(f"{package}.")


def _find(target: str) -> Any:
    """Return the object at a dotted path: a module, then names of classes. None if there is no such object."""
    parts = target.split(".")
    if not all(part.isidentifier() and not part.startswith("__") for part in parts):
        return None
    for cut in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:cut])
        try:
            found: Any = import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise InputError(f"{path} cannot be imported: {error}") from error
            if cut == 1:
                raise InputError(f"{path} cannot be imported: install it, or add its folder to PYTHONPATH") from error
            continue
        except Exception as error:
            raise InputError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
        for k, name in enumerate(parts[cut:]):
            if k and not inspect.isclass(found):
                return None  # reached through what the module imports, as in torchvision.os.system
            found = getattr(found, name, None)
        return found
    return None


def _is_defined_in(found: Any, packages: Sequence[str]) -> bool:
    kind = inspect.isclass(found) or inspect.isfunction(found) or inspect.ismethod(found)
    return kind and any(f"{found.__module__}.".startswith(f"{package}.") for package in packages)


def _is_ours(found: Any, target: str, part: Part) -> bool:
    function = part == "data" and inspect.isfunction(found) and _within(target, "stnrot.data.sources")
    return (
        (inspect.isclass(found) or function)
        and _is_defined_in(found, OURS[part])
        and f"{found.__module__}.{found.__qualname__}" == target
    )


def _is_module(found: Any) -> bool:
    """Return whether an object is a network of torch, torchvision or timm, not a wrapper that starts processes."""
    places = [place for path, defined in MODULES.items() for place in defined or (path,)]
    return inspect.isclass(found) and issubclass(found, nn.Module) and _is_defined_in(found, places)


def _is_builder(found: Any, node: Mapping[str, Any]) -> bool:
    """Return whether an object is a builder of torchvision that downloads no weights with these arguments."""
    from torchvision.models import get_model_builder, list_models

    if not inspect.isfunction(found) or not any(found is get_model_builder(name) for name in list_models()):
        return False
    defaults = {name: each.default for name, each in inspect.signature(found).parameters.items()}
    weights = [value for name, value in (defaults | dict(node)).items() if name.startswith(("weights", "pretrained"))]
    return not node.get("_args_") and not any(weights)
