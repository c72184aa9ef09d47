"""Images in arrays, as `stnrot.fit` trains on them."""

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from stnrot.arguments import described
from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.sources.files import split_by_seed
from stnrot.errors import InputError
from stnrot.image_kinds import to_floats

VALIDATION = 0.15  # share of every class


def arrays(root: Path | None, split_seed: int) -> NoReturn:
    """Raise InputError: it stands in the configuration of a model that was trained on arrays."""
    raise InputError("stnrot.fit trained this model on arrays, which it does not hold: choose other data, data=...")


def split_arrays(images: object, labels: object, classes: tuple[str, ...] | None, split_seed: int) -> Splits:
    """Return a training and a validation set with the same share of every class. The test set is the validation set.

    Args:
        images: as in `stnrot.fit`.
        labels: class of each image, from 0.
        classes: names of the classes; None: their numbers.
        split_seed: of the split.
    """
    image, label = _bytes(images), _labels(labels)
    if len(image) != len(label):
        raise InputError(f"labels: expected one for each of the {len(image)} images, got {len(label)}")
    counts = torch.bincount(label, minlength=len(classes or ()))
    if classes is not None and len(counts) > len(classes):
        raise InputError(f"classes: expected a name for each class from 0 to {len(counts) - 1}, got {len(classes)}")
    fewest = math.ceil(0.5 / VALIDATION)
    if len(counts) < 2 or counts.min() < fewest:
        raise InputError(
            f"labels: expected at least 2 classes, from 0, each with at least {fewest} images, got {counts.tolist()}"
        )
    names = classes or tuple(map(str, range(len(counts))))
    train, val, _ = split_by_seed(ImageSet(image, label), split_seed, VALIDATION, 0)
    return Splits(train, val, val, names)


def _bytes(images: object) -> UInt8[Tensor, "N C H W"]:
    if isinstance(images, Tensor) and images.ndim == 3:
        images = images[:, None]
    elif isinstance(images, np.ndarray) and images.ndim == 3:
        images = images[..., None]
    elif isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[-1] > 4:
        images = np.moveaxis(images, 1, -1)
    if not isinstance(images, Tensor | np.ndarray) or images.ndim != 4:
        raise InputError(f"images: expected [N, H, W] or [N, C, H, W], got {described(images)}")
    floats = to_floats(images, "images").colours
    if not (floats.min() >= 0 and floats.max() <= 1):
        raise InputError(
            f"images: expected uint8, or numbers from 0 to 1, got {floats.min():.3g} to {floats.max():.3g}"
        )
    return (floats * 255).round().to(torch.uint8).contiguous()


def _labels(labels: object) -> Int[Tensor, "N"]:
    try:
        label = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"labels: expected whole numbers from 0, got {described(labels)}; {error}") from error
    whole = not label.is_floating_point() and not label.is_complex() and label.dtype != torch.bool
    if label.ndim != 1 or not whole or (len(label) and label.min() < 0):
        raise InputError(f"labels: expected a class for each image, whole numbers from 0, got {described(labels)}")
    return label.long()
