"""A task and its data as train.py builds them, and a training loop without Lightning."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from harness.jobs import PROJECT
from stnrot.data.batch import Batch
from stnrot.data.batch_samplers import TrainingBatches
from stnrot.data.image_data import ImageData
from stnrot.data.rng import Split
from stnrot.tasks.register import Register


def composed(*overrides: str) -> tuple[ImageData, DictConfig]:
    """Return the data and the configuration of a model for it; the loop sets the learning rate."""
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        cfg = compose("train", [*overrides, "task.scheduler=null"])
    data: ImageData = instantiate(cfg.data, _convert_="all")
    cfg.data_spec = data.spec()
    return data, cfg


def parameters(*overrides: str) -> int:
    """Return the number of parameters of a model of MNIST; no data are read."""
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        cfg = compose("train", list(overrides))
    cfg.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    return sum(parameter.numel() for parameter in instantiate(cfg.model).parameters())


def rotated_mnist(root: Path, batch: int) -> list[str]:
    """Return the overrides that choose rotated MNIST."""
    return ["data=rotated_mnist", f"data.root={root}", f"data.batch_size={batch}"]


def built(cfg: DictConfig, device: str) -> Register:
    """Return the task, as train.py builds it."""
    task: Register = instantiate(cfg.task, model=instantiate(cfg.model)).to(device)
    return task.to(memory_format=torch.channels_last)


def training_batches(data: ImageData, device: str) -> Iterator[Batch]:
    """Yield endlessly the batches that a `Trainer` gets."""
    train = data.splits.train
    epoch = itertools.count().__next__
    order = TrainingBatches(len(train), data.batch_size, data.repeats, data.seed, epoch, (0, 1))
    loader = data.loader(train, order)
    while True:
        for raw in loader:
            yield data.view(data.transfer_batch_to_device(raw, torch.device(device), 0), Split.TRAIN)


def stepper(
    task: Register, optimizer: Optimizer, device: str, bf16: bool, clip: float, parallel: nn.Module | None = None
) -> Callable[[Batch], None]:
    """Return a function that takes one training step on a batch and clips the norm of the gradient to `clip`.

    Args:
        parallel: the task in a module that exchanges its gradients.
    """
    forward = task if parallel is None else parallel

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            terms = task.losses(forward(batch), batch).values()
            loss = torch.stack([weight * term for weight, term in terms]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), clip)
        optimizer.step()

    return step


def fed(step: Callable[[Batch], None], batches: Iterator[Batch]) -> Callable[[], None]:
    """Return a function that takes one step on the next batch."""
    return lambda: step(next(batches))
