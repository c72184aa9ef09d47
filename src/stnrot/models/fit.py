"""A training loop for modules that have their own loss."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from stnrot.arguments import described
from stnrot.errors import InputError, check_number

SLACK = 0.5  # values that bicubic sampling may have beyond [0, 1]


def fit(
    model: Any,
    images: Tensor | Iterable[Any],
    labels: Tensor | None,
    *,
    upright: bool,
    epochs: int,
    lr: float,
    batch_size: int,
) -> list[float]:
    """Train a model by its own `loss`, see `Upright.fit`. Afterwards it is in evaluation mode.

    Raises:
        InputError: if an argument does not fit, images are far outside [0, 1], or the loss is not finite. The step is
            not taken then.
    """
    check_number("epochs", epochs, 1)
    check_number("lr", lr, 0, whole=False)
    check_number("batch_size", batch_size, 1)
    if isinstance(images, Iterator) or not _length(images):
        raise InputError("images: expected a tensor [N, C, H, W] or a loader that has a length, and at least one batch")
    if isinstance(images, Tensor):
        if labels is not None and not (isinstance(labels, Tensor) and labels.shape == images.shape[:1]):
            raise InputError(f"labels: expected a tensor [{len(images)}] of whole numbers, got {described(labels)}")
        tensors = (images,) if labels is None else (images, labels)
        images = DataLoader(TensorDataset(*tensors), batch_size, shuffle=True)
    elif labels is not None:
        raise InputError("labels: expected None with a loader, whose batches hold the labels")
    weights = [each for each in model.parameters() if each.requires_grad]
    if not weights:
        raise InputError("expected a model with parameters to train, got one whose parameters are all frozen")
    optimizer = AdamW(weights, lr)
    schedule = OneCycleLR(optimizer, lr, epochs * _length(images))
    device = weights[0].device
    model.train()
    means = []
    for _ in range(epochs):
        total, count = 0.0, 0
        for batch in images:
            parts: Any = batch if isinstance(batch, list | tuple) else (batch,)
            if not 1 <= len(parts) <= 2 or not all(isinstance(each, Tensor) for each in parts):
                raise InputError(f"images: expected batches of images, or of (images, labels), got {described(batch)}")
            if upright or len(parts) == 1:  # else the images are rotated alone
                _check_pixels(parts[0])
            loss = model.loss(*(each.to(device) for each in parts), upright=upright)
            loss.backward()
            value = loss.item()
            if not math.isfinite(value):
                raise InputError(f"loss: expected a finite number, got {value}; try a smaller lr than {lr}")
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total, count = total + value * len(parts[0]), count + len(parts[0])
        means.append(total / count)
    model.eval()
    return means


def _check_pixels(images: Tensor) -> None:
    """Raise InputError if the values of a batch are far outside [0, 1], or not numbers."""
    low, high = torch.stack(images.aminmax()).tolist() if images.numel() else (0.0, 1.0)
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise InputError(
            f"images: expected values in [0, 1], got {low:.3g} to {high:.3g}; divide bytes by 255, and leave mean and "
            "std to the model, which normalises upright images"
        )


def _length(images: Any) -> int:
    """Return the number of batches, or 0 if it is not known."""
    try:
        return len(images)
    except TypeError:
        return 0
