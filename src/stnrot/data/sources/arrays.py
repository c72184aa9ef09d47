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
NUMBERED = "classes, labels = np.unique(labels, return_inverse=True) numbers them"


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
    last, fewest = int(label.max()), math.ceil(0.5 / VALIDATION)
    if classes is not None and last >= len(classes):
        raise InputError(f"classes: expected a name for each class from 0 to {last}, got {len(classes)}")
    present, counts = label.unique(return_counts=True)
    expected = max(last + 1, len(classes or ()))
    if len(present) < 2 or counts.min() < fewest or expected > len(present):
        raise InputError(
            f"labels: expected at least 2 classes, from 0 without a gap, each with at least {fewest} images, got "
            f"{len(present)} of {expected}, the smallest with {int(counts.min())}; {NUMBERED}"
        )
    names = classes or tuple(map(str, range(len(present))))
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
    if floats.shape[1] not in (1, 3):
        raise InputError(f"images: expected 1 or 3 channels, got {floats.shape[1]}")
    if not (floats.min() >= 0 and floats.max() <= 1):
        raise InputError(
            f"images: expected uint8, or numbers from 0 to 1, got {floats.min():.3g} to {floats.max():.3g}"
        )
    return (floats * 255).round().to(torch.uint8).contiguous()


def _labels(labels: object) -> Int[Tensor, "N"]:
    try:
        label = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    except ValueError:  # lists of different lengths
        label = np.empty(())
    if label.ndim != 1 or label.dtype.kind not in "iu" or not len(label) or label.min() < 0:
        raise InputError(
            f"labels: expected a class for each image, whole numbers from 0, got {described(labels)}; {NUMBERED}"
        )
    return torch.from_numpy(label.astype(np.int64))
