"""Choose the samples of each batch by (seed, epoch), the same for any number of processes."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor

from stnrot.data.rng import Key, Purpose, permutation


@runtime_checkable
class Batches(Protocol):
    """What a loader goes through in each epoch: the counters of each batch (see `RawBatch`)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...


class TrainingBatches:
    """Shuffle the set and yield the counters (see `RawBatch`) of each batch: the share of one process.

    The last batch of an epoch is left out if it is not full.

    Args:
        count: samples in the set.
        batch_size: samples in one step, over all processes together.
        repeats: passes over the set in one epoch.
        seed: of the order, with the epoch.
        epoch: returns the current epoch, see `epoch_counter`. It is called when iteration starts, so a resumed run
            continues the order.
        process: (rank, number of processes).
        done: returns how many batches of the epoch are done, see `batch_counter`: those are left out.
        order: returns an order of a number of samples by a random key. A set can have one of its own.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        repeats: int,
        seed: int,
        epoch: Callable[[], int],
        process: tuple[int, int],
        done: Callable[[], int] = lambda: 0,
        order: Callable[[Key, int], Tensor] = permutation,
    ) -> None:
        rank, processes = process
        self.done, self.order = done, order
        self.length = count * repeats
        self.batch_size = full_batch(batch_size, self.length, processes)
        self.seed, self.epoch = seed, epoch
        self.share = slice(rank, None, processes)

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        epoch = self.epoch()
        order = self.order((self.seed, Purpose.ORDER, epoch), self.length)
        order += epoch * self.length
        rest = order[self.done() * self.batch_size : len(self) * self.batch_size]
        for batch in rest.split(self.batch_size) if len(rest) else ():
            yield batch[self.share]


def full_batch(batch_size: int, samples: int, processes: int) -> int:
    """Return the size of a training batch: smaller than `batch_size` only if an epoch has fewer samples."""
    return min(batch_size, samples - samples % processes)


class EvaluationBatches:
    """Yield the whole set in order, in batches of nearly equal size: the share of one process of every batch.

    Every process gets the same number of batches, and every sample is in exactly one share. No share is empty if there
    are at least as many samples as processes. A share has at most `ceil(batch_size / processes) + 1` samples.

    Args:
        count: samples in the set.
        batch_size: number of samples in one step, over all processes together.
        process: (rank, number of processes).
    """

    def __init__(self, count: int, batch_size: int, process: tuple[int, int]) -> None:
        rank, processes = process
        # more batches than count // processes would leave some batch with fewer samples than processes
        self.count, self.batches = count, min(-(-count // batch_size), max(1, count // processes))
        self.share = slice(rank, None, processes)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        for batch in torch.arange(self.count).tensor_split(self.batches):
            yield batch[self.share]


def epoch_counter(trainer: L.Trainer) -> Callable[[], int]:
    """Return a function that returns the number of finished epochs, those before a resume included.

    `trainer.current_epoch` is not enough: it still holds the epoch of the checkpoint when a resumed run first feeds its
    workers. With `trainer.overfit_batches` every epoch counts as the first, so that all have the same batches.
    """
    if trainer.overfit_batches:  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        return lambda: 0
    progress: Any = trainer.fit_loop.epoch_progress.current
    return lambda: progress.processed


def batch_counter(trainer: L.Trainer) -> Callable[[], int]:
    """Return a function that returns how many batches of the current epoch were done before a resume.

    A checkpoint within an epoch counts an epoch that has started and not ended. Any other epoch begins with the first
    batch, also if the counter of batches still has the number of the epoch before.
    """
    loop: Any = trainer.fit_loop

    def done() -> int:
        epochs = loop.epoch_progress.current
        return loop.epoch_loop.batch_progress.current.ready if epochs.started != epochs.processed else 0

    return done
