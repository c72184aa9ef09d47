"""A training loop for modules that have their own loss."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from stnrot.arguments import described
from stnrot.errors import InputError, check_number


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
    """Train a model by its own `loss`, see `Upright.fit`. Afterwards it is in evaluation mode."""
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
            loss = model.loss(*(each.to(device) for each in parts), upright=upright)
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total, count = total + loss.item() * len(parts[0]), count + len(parts[0])
        means.append(total / count)
    model.eval()
    return means


def _length(images: Any) -> int:
    """Return the number of batches, or 0 if it is not known."""
    try:
        return len(images)
    except TypeError:
        return 0
