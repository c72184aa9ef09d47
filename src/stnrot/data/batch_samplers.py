"""Which draws make a batch: functions of (seed, epoch), the same for any number of processes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stnrot.data.rng import Purpose, permutation


class TrainingBatches:
    """Shuffled global batches of exactly `batch_size`, of which each process yields its share.

    An epoch passes `repeats` times over the set; what does not fill a batch is left out of that epoch.
    The epoch is asked for when iteration starts, so a resumed run continues the order of the whole run.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        repeats: int,
        seed: int,
        epoch: Callable[[], int],
        process: tuple[int, int],
    ) -> None:
        rank, processes = process
        self.length = count * repeats
        self.batch_size = min(batch_size, self.length - self.length % processes)
        self.seed, self.epoch = seed, epoch
        self.share = slice(rank, None, processes)

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        epoch = self.epoch()
        order = permutation((self.seed, Purpose.ORDER, epoch), self.length) + epoch * self.length
        for batch in order[: len(self) * self.batch_size].split(self.batch_size):
            yield batch[self.share]


class EvaluationBatches:
    """The whole set in order, in batches of nearly equal size, each process its share of every batch."""

    def __init__(self, count: int, batch_size: int, process: tuple[int, int]) -> None:
        rank, processes = process
        self.count, self.batches = count, -(-count // batch_size)
        self.share = slice(rank, None, processes)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        for batch in torch.arange(self.count).tensor_split(self.batches):
            yield batch[self.share]
