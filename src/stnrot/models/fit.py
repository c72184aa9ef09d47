"""A training loop for modules that have their own loss."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

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
    check_number("batch_size", batch_size, 1)
    if isinstance(images, Tensor):
        tensors = (images,) if labels is None else (images, labels)
        images = DataLoader(TensorDataset(*tensors), batch_size, shuffle=True)
    elif labels is not None:
        raise InputError("labels: expected None with a loader, whose batches hold the labels")
    if isinstance(images, Iterator) or not isinstance(images, Sized) or not len(images):
        raise InputError("images: expected a tensor [N, C, H, W] or a loader that has a length, and at least one batch")
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = AdamW(weights, lr)
    schedule = OneCycleLR(optimizer, lr, epochs * len(images))
    device = weights[0].device
    model.train()
    means = []
    for _ in range(epochs):
        total, count = 0.0, 0
        for batch in images:
            parts: Any = batch if isinstance(batch, list | tuple) else (batch,)
            loss = model.loss(*(each.to(device) for each in parts), upright=upright)
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total, count = total + loss.item() * len(parts[0]), count + len(parts[0])
        means.append(total / count)
    model.eval()
    return means
