"""Models of the default kind, without Hydra. Their options are those of `configs/model/`."""

from importlib import import_module
from typing import Any

from stnrot.config_files import read_options
from stnrot.errors import check_choice, check_number
from stnrot.models.model import Model

MODELS = ("rot_stn", "affine_stn", "cnn")
SPEC = "${data_spec."  # an option that the data sets


def create_model(name: str, *, classes: int, channels: int = 1, size: int = 28) -> Model:
    """Return a new model of images with the options that `python train.py model=NAME` has by default.

    `model.loss(images, labels)` is the loss of a training step, see `Model.loss`.

    Args:
        name: `rot_stn`, the rotation-only STN; `affine_stn`, the general STN; `cnn`, a classifier alone.
        classes: number of classes.
        channels: of an image: 1 grey, 3 colour.
        size: side of the images in pixels. Images of other sizes are accepted too.

    Raises:
        InputError: if there is no such model, or a number is out of range.

    >>> import torch
    >>> model = create_model("rot_stn", classes=10)
    >>> loss = model.loss(torch.rand(8, 1, 28, 28), torch.arange(8))
    >>> loss.backward()
    >>> prediction = model.eval()(torch.rand(2, 1, 28, 28), None)
    >>> prediction.log_probability.shape, prediction.orientation.angle.shape
    (torch.Size([2, 10]), torch.Size([2, 3]))
    """
    check_choice("name", name, *MODELS)
    check_number("classes", classes, 2)
    check_number("channels", channels, 1)
    check_number("size", size, 4)
    spec = {"channels": channels, "height": size, "width": size, "classes": classes}
    return _built(_options("model", name), spec)


def _options(group: str, name: str) -> dict[str, Any]:
    """Return the options of a file and of the choices that it builds on, in the order of Hydra."""
    own = dict(read_options(f"{group}/{name}"))
    defaults = own.pop("defaults", [])
    found: dict[str, Any] = {}
    for entry in defaults if "_self_" in defaults else [*defaults, "_self_"]:
        if entry == "_self_":
            found |= own
        else:
            found |= {inner: _options(f"{group}/{inner}", choice) for inner, choice in entry.items()}
    return found


def _built(node: Any, spec: dict[str, int]) -> Any:
    """Build what a node of the options describes: a class from `_target_`, a list, or a value."""
    if isinstance(node, dict):
        values = {key: _built(value, spec) for key, value in node.items() if key != "_target_"}
        module, _, kind = node["_target_"].rpartition(".")
        return getattr(import_module(module), kind)(**values)
    if isinstance(node, list):
        return [_built(each, spec) for each in node]
    if isinstance(node, str) and node.startswith(SPEC):
        return spec[node.removeprefix(SPEC).rstrip("}")]
    return node
