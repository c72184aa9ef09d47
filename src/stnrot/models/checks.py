"""Check what networks are given, where a user would meet the traceback of a convolution."""

from typing import Any

import torch
from torch import Tensor, nn

from stnrot.annotations import is_dense
from stnrot.arguments import described
from stnrot.errors import InputError


def check_network(name: str, value: Any) -> None:
    """Raise InputError unless an argument is a module."""
    if not isinstance(value, nn.Module):
        raise InputError(f"{name}: expected a network (torch.nn.Module), got {described(value)}")


def check_images(
    name: str, image: Any, channels: int, like: nn.Module, weight: Any, smallest: int = 1, count: int | None = None
) -> None:
    """Raise InputError unless an argument is a batch of images that a network accepts. Compiled graphs have no check.

    Args:
        name: of the argument; it begins the message.
        image: the argument.
        channels: of the images.
        like: the network. In training, batch norm needs an image.
        weight: of the network: images have its device, and its dtype unless autocast converts them.
        smallest: the least height and width, in pixels.
        count: the number of images; None for any. One image serves for all.
    """
    if torch.compiler.is_compiling():
        return
    place = weight.device
    allowed = {weight.dtype}
    if place.type != "meta" and torch.is_autocast_enabled(place.type):
        allowed = {torch.float32, torch.get_autocast_dtype(place.type)}
    if (
        is_dense(image)
        and image.dtype in allowed
        and image.device == place
        and image.ndim == 4
        and image.shape[1] == channels
        and min(image.shape[2:]) >= smallest
        and len(image) >= like.training
        and (count is None or len(image) in (1, count))
    ):
        return
    batch = "B" if count is None else f"{count} or 1"
    size = f" of at least {smallest} x {smallest} pixels" if smallest > 1 else ""
    if like.training and isinstance(image, Tensor) and image.ndim and not len(image):
        size += ", in training of at least one image"
    dtypes = " or ".join(sorted(map(str, allowed)))
    on = f" on {image.device}" if isinstance(image, Tensor) and image.device != place else ""
    shape = f"[{batch}, {channels}, H, W]{size}"
    raise InputError(f"{name}: expected a tensor {shape} of {dtypes} on {place}, got {described(image)}{on}")


def check_comparison(encoder: Any, image: Any, reference: Any, hypotheses: int) -> None:
    """Raise InputError unless an encoder can compare these images with this reference.

    Args:
        encoder: has `channels`, `angles`, `feature_shape` and `log_scale`.
        image: a batch of images.
        reference: one for all images or one for each: images, or, with three dimensions, features.
        hypotheses: number of angles, at most the bins of the posterior.
    """
    if not 1 <= hypotheses <= encoder.angles:
        raise InputError(f"model.hypotheses={hypotheses}: expected 1 to model.encoder.angles={encoder.angles}")
    check_images("image", image, encoder.channels, encoder, encoder.log_scale)
    batch = image.shape[0]
    if reference.ndim != 3:
        check_images("reference", reference, encoder.channels, encoder, encoder.log_scale, 1, batch)
    elif reference.shape[1:] != encoder.feature_shape or reference.shape[0] not in (1, batch):
        features = f"[{batch} or 1, {', '.join(map(str, encoder.feature_shape))}]"
        raise InputError(f"reference: expected features {features}, got shape {list(reference.shape)}")
