"""Classifiers of torchvision."""

import difflib
import re
from pathlib import Path
from typing import Any

from torch import nn

from stnrot.errors import InputError, needs_extra, reason_of
from stnrot.models.classifiers.pretrained import PretrainedClassifier, check_arguments
from stnrot.models.classifiers.weights_file import load_weights, read_weights

# Networks with further heads that training alone uses. They are left out: their outputs are not logits.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
HALF = (0.5, 0.5, 0.5)  # mean and std of the images of these two; torchvision converts them inside the network
OLD_NAMES = re.compile(r"\.(norm|conv)\.([12])\.")  # in the files of DenseNet: `norm.1` is now `norm1`


class TorchvisionClassifier(PretrainedClassifier):
    """A classifier of `torchvision.models`, with a last layer for the classes of the data.

    The last layer has random weights, unless the pretrained one has as many outputs. See `PretrainedClassifier`.

    Args:
        name: such as `resnet18`, one of `torchvision.models.list_models(torchvision.models)`.
        channels: of an image, 1 or 3.
        classes: number of logits.
        pretrained: start from torchvision's default weights, which are downloaded once.
        weights: file to read them from instead, `.pth` or `.safetensors`.
        frozen: train the last layer alone.

    Raises:
        InputError: if an argument is not valid, or the weights cannot be read, downloaded or loaded.

    >>> import torch
    >>> classifier = TorchvisionClassifier(
    ...     name="resnet18", channels=1, classes=10, pretrained=False, weights=None, frozen=False
    ... )
    >>> classifier(torch.rand(2, 1, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, *, name: str, channels: int, classes: int, pretrained: bool, weights: str | None, frozen: bool
    ) -> None:
        check_arguments(classes, pretrained, weights)
        with needs_extra("a classifier of torchvision"):
            import torchvision
        from torchvision.models import get_model_builder, get_model_weights, list_models

        names = list_models(torchvision.models)
        if name not in names:
            near = ", ".join(difflib.get_close_matches(str(name), names, 5, 0.3))
            raise InputError(f"name={name}: expected a classifier of torchvision.models, such as {near or 'resnet18'}")
        unused = AUXILIARY.get(name, ())
        further: dict[str, Any] = {"aux_logits": False, "init_weights": True} if unused else {}
        network = get_model_builder(name)(weights=None, num_classes=classes, **further)
        heads = [each for each, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1:]
        official: Any = get_model_weights(name).DEFAULT
        if pretrained:
            found = _downloaded(name, official) if weights is None else read_weights(Path(weights))
            if name.startswith("densenet"):
                found = {OLD_NAMES.sub(r".\1\2.", key): value for key, value in found.items()}
            source = f"the weights of {name}" if weights is None else f"weights={weights}: they"
            load_weights(network, found, heads, source, unused)
        preset = official.transforms()
        super().__init__(
            network=network,
            heads=heads,
            mean=HALF if unused else preset.mean,
            std=HALF if unused else preset.std,
            name=name,
            channels=channels,
            frozen=frozen,
        )


def _downloaded(name: str, official: Any) -> dict[str, Any]:
    try:
        return official.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"pretrained=True: the weights of {name} could not be downloaded ({reason_of(error)}); download "
            f"{official.url} elsewhere and give the file as weights=FILE, or train from scratch with pretrained=false"
        ) from error
