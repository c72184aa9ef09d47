"""The base of every datamodule: batches and loaders for any number of processes, and the data spec of a checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import lightning as L
import torch
from jaxtyping import Int
from lightning.fabric.utilities.seed import max_seed_value
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader

from stnrot.data.batch_samplers import Batches, EvaluationBatches, TrainingBatches, batch_counter, epoch_counter
from stnrot.data.rng import Key, Split, permutation
from stnrot.data.worker_signals import outlive_stop
from stnrot.errors import InputError, check_number

STAGE_SPLIT = {RunningStage.TRAINING: Split.TRAIN, RunningStage.TESTING: Split.TEST}  # every other stage validates


@runtime_checkable
class BatchDataset(Protocol):
    """A data set that returns a whole batch at once, by counters: see `RawBatch`."""

    def __len__(self) -> int: ...

    def __getitems__(self, counters: Int[Tensor, "B"]) -> Any: ...


@runtime_checkable
class ShardedDataset(BatchDataset, Protocol):
    """A set in parts. A training has to go through it part by part, and a part can be fetched before it is needed."""

    def order(self, key: Key, count: int) -> Int[Tensor, "{count}"]: ...

    def prefetched(self, batches: Batches, workers: int, processes: int) -> Batches: ...


@dataclass(kw_only=True, eq=False, repr=False)
class DataModule(L.LightningDataModule, ABC):
    """Serve a training, a validation and a test set in whole batches.

    The order of the training samples is a function of (seed, epoch), so a resumed run continues it. Each process gets
    its share of every batch.

    Args:
        batch_size: samples in one step, over all processes together; in training a multiple of their number.
        repeats: passes over the training set in one epoch.
        seed: of the order of the training samples and of the random changes to them.
        split_seed: of the split and of everything random in the validation and test sets.
    """

    batch_size: int
    repeats: int
    seed: int
    split_seed: int
    more_samples: ClassVar[str]  # how to get a larger set; ends the message about a set that is too small

    def __post_init__(self) -> None:
        super().__init__()
        check_number("batch_size", self.batch_size, 1)
        check_number("repeats", self.repeats, 1)
        check_number("seed", self.seed, 0, max_seed_value)
        check_number("split_seed", self.split_seed, 0, max_seed_value)

    @abstractmethod
    def dataset(self, split: Split) -> BatchDataset:
        """Return one of the three sets."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return the data spec as plain values: a model is configured by it, and a checkpoint keeps it."""

    def check_trained_on(self, trained: Mapping[str, Any], model: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise InputError if a model cannot be tested on this data.

        Args:
            trained: the data spec of the run that trained the model.
            model: the configuration of the model.
            checkpoint: names the run in the message.
        """
        given = self.spec()
        if trained.keys() != given.keys():
            raise InputError(
                f"{checkpoint} was trained on data with {', '.join(trained)}, this has {', '.join(given)}: "
                "choose data of the same kind"
            )

    def view(self, batch: Any, split: Split) -> Any:
        """Return what a task receives for a fetched batch; called on the device, after the transfer."""
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the view of a batch of the current stage."""
        assert self.trainer is not None
        stage: Any = self.trainer.state.stage
        return self.view(batch, STAGE_SPLIT.get(stage, Split.VAL))

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training set."""
        assert self.trainer is not None
        self.check_processes(self.trainer.world_size)
        train = self.dataset(Split.TRAIN)
        batches = TrainingBatches(
            len(train),
            self.batch_size,
            self.repeats,
            self.seed,
            epoch_counter(self.trainer),
            self._process(),
            batch_counter(self.trainer),
            train.order if isinstance(train, ShardedDataset) else permutation,
        )
        return self.loader(train, batches)

    def val_dataloader(self) -> DataLoader:
        """Return the validation set, in order."""
        return self.evaluation_loader(Split.VAL)

    def test_dataloader(self) -> DataLoader:
        """Return the test set, in order."""
        return self.evaluation_loader(Split.TEST)

    def evaluation_loader(self, split: Split) -> DataLoader:
        """Return one of the sets, in order."""
        self._check_size(split, self._process()[1])
        dataset = self.dataset(split)
        return self.loader(dataset, EvaluationBatches(len(dataset), self.batch_size, self._process()))

    def check_processes(self, processes: int) -> None:
        """Raise InputError if the batch size or the sets do not suffice for this number of processes.

        Data that is not loaded yet is loaded by `setup`.
        """
        if self.batch_size % processes:
            raise InputError(
                f"data.batch_size={self.batch_size} counts the samples of all processes together: expected a multiple "
                f"of their number, {processes}; change data.batch_size or trainer.devices"
            )
        self.setup("fit")
        for split in Split:
            self._check_size(split, processes)

    def _check_size(self, split: Split, processes: int) -> None:
        size = len(self.dataset(split))
        if size < processes:
            why = ", one for each process" if processes > 1 else ""
            raise InputError(
                f"samples in the {split.name.lower()} set: expected at least {processes}{why}, got {size}; "
                f"{self.more_samples}"
            )

    def loader(self, dataset: BatchDataset, batches: Batches) -> DataLoader:
        """Return a loader that fetches each batch of counters at once."""
        workers = self.workers(dataset)
        if isinstance(dataset, ShardedDataset):
            assert self.trainer is not None
            processes = self.trainer.world_size // self.trainer.num_nodes
            batches = dataset.prefetched(batches, workers, processes)
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # fetched through __getitems__ alone
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=as_fetched,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=outlive_stop,
            generator=torch.Generator(),  # seeds the workers; else a resumed run would draw once more from torch's own
            pin_memory=self.trainer is not None and isinstance(self.trainer.accelerator, CUDAAccelerator),
        )

    def workers(self, dataset: BatchDataset) -> int:
        """Return how many processes fetch batches; 0 fetches them in this one."""
        return 0

    def _process(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size


def as_fetched(batch: Any) -> Any:
    """Return the batch unchanged: a `BatchDataset` has collated it already."""
    return batch
