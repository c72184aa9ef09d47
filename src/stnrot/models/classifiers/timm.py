"""Classifiers of timm (PyTorch Image Models)."""

import difflib
import re
from pathlib import Path
from typing import Any

from stnrot.errors import InputError, needs_extra, reason_of
from stnrot.models.classifiers.pretrained import PretrainedClassifier, check_arguments
from stnrot.models.classifiers.weights_file import load_weights, read_weights

PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")  # no place to download from, such as hf-hub:OWNER/NAME


class TimmClassifier(PretrainedClassifier):
    """A classifier of timm, with a last layer for the classes of the data.

    The last layer has random weights, unless the pretrained one has as many outputs. See `PretrainedClassifier`.

    Args:
        name: such as `resnet18` or `resnet18.a1_in1k`, one of `timm.list_models()`, with or without the tag of its
            weights. Names of places, `hf-hub:...` or `local-dir:...`, are refused: a checkpoint holds this name, and
            loading a checkpoint must not read or download anything else.
        channels: of an image, 1 or 3.
        classes: number of logits.
        pretrained: start from timm's weights, which are downloaded once.
        weights: file to read them from instead, `.pth` or `.safetensors`.
        frozen: train the last layer alone.

    Raises:
        InputError: if an argument is not valid, or the weights cannot be read, downloaded or loaded.
    """

    def __init__(
        self, *, name: str, channels: int, classes: int, pretrained: bool, weights: str | None, frozen: bool
    ) -> None:
        check_arguments(classes, pretrained, weights)
        with needs_extra("a classifier of timm", "timm"):
            import timm
        if not (isinstance(name, str) and PLAIN.fullmatch(name) and timm.is_model(name)):
            near = ", ".join(difflib.get_close_matches(str(name), timm.list_models(), 5, 0.3))
            raise InputError(f"name={name}: expected a classifier of timm.list_models(), such as {near or 'resnet18'}")
        network = _built(name, classes, pretrained and weights is None)
        found: Any = network.pretrained_cfg
        heads = [found["classifier"]] if isinstance(found["classifier"], str) else list(found["classifier"] or ())
        if not heads:
            raise InputError(f"name={name}: expected a network with a last layer that classifies, got one without")
        if pretrained and weights is not None:
            load_weights(network, read_weights(Path(weights)), heads, f"weights={weights}: they")
        super().__init__(
            network=network,
            heads=heads,
            mean=found["mean"],
            std=found["std"],
            name=name,
            channels=channels,
            frozen=frozen,
        )


def _built(name: str, classes: int, pretrained: bool) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=classes)
    except Exception as error:  # of the network, the file system or huggingface_hub
        if not pretrained:
            raise InputError(f"name={name}: {reason_of(error)} Expected a classifier of timm.list_models()") from error
        raise InputError(
            f"pretrained=True: the weights of {name} could not be loaded ({reason_of(error)}); download them "
            "elsewhere and give the file as weights=FILE, or train from scratch with pretrained=false"
        ) from error
