"""The LightningDataModule under every data option: splits, loaders, shares of processes."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.batch_samplers import EvaluationBatches, TrainingBatches
from stnrot.data.image_set import ImageDataset, ImageSet, Splits, balanced_order
from stnrot.data.rng import Purpose, Split
from stnrot.errors import InputError, check_number

SPLIT = {RunningStage.TRAINING: Split.TRAIN, RunningStage.TESTING: Split.TEST}  # in other stages it validates
Source = Callable[[Path | None, int], Splits]


class ImageData(L.LightningDataModule, ABC):
    """Feed whole batches of bytes to the device and there make a `Batch` of them.

    Args:
        source: called with (root, split_seed), returns the splits.
        root: where the images lie; None for an embedded set.
        n_train: keep this many training images, balanced over the classes; None keeps all.
        batch_size: images a step over all processes; the number of processes must divide it.
        repeats: passes over the training images in one epoch.
        num_workers: processes that decode; None is one a core for a streamed set, none for one in memory.
        seed: of sample order and augmentation, with the epoch.
        split_seed: of the split, and of the turns and the noise of the evaluation sets.
    """

    splits: Splits

    def __init__(
        self,
        *,
        source: Source,
        root: str | None,
        n_train: int | None,
        batch_size: int,
        repeats: int,
        num_workers: int | None,
        seed: int,
        split_seed: int,
    ) -> None:
        super().__init__()
        check_number("data.repeats", repeats, 1)
        check_number("data.batch_size", batch_size, 1)
        for name, number, least in (("n_train", n_train, 1), ("num_workers", num_workers, 0)):
            if number is not None:
                check_number(f"data.{name}", number, least)
        self.source, self.root, self.n_train = source, root, n_train
        self.batch_size, self.repeats, self.num_workers = batch_size, repeats, num_workers
        self.seed, self.split_seed = seed, split_seed

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once."""
        if hasattr(self, "splits"):
            return
        splits = self.source(None if self.root is None else Path(self.root).expanduser(), self.split_seed)
        self.splits = Splits(self._keep(splits.train), splits.val, splits.test, splits.classes)

    def _keep(self, train: ImageDataset) -> ImageDataset:
        if self.n_train is None:
            return train
        if not max(1, 0 if train.label is None else len(train.label.unique())) <= self.n_train <= len(train):
            raise InputError(
                f"data.n_train={self.n_train}: expected at most the {len(train)} training images there are, "
                "and at least one a class"
            )
        label = torch.zeros(len(train), dtype=torch.int64) if train.label is None else train.label
        order = balanced_order(label, (self.split_seed, Purpose.SUBSET))
        return train.subset(order[: self.n_train])

    def spec(self) -> dict[str, int | list[str]]:
        """Return what a model must know of the data: the shape of a picture and the classes."""
        self.setup()
        channels, height, width = self.splits.train.shape
        names = list(self.splits.classes)
        return {
            "channels": channels,
            "height": height,
            "width": width,
            "classes": len(names),
            "class_names": names,
        }

    @abstractmethod
    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Make the batch that a model sees, on the device, as a function of the draws."""

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Rotate after the transfer: whole batches, on the device."""
        assert self.trainer is not None
        stage: Any = self.trainer.state.stage
        return self.view(batch, SPLIT.get(stage, Split.VAL))

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training set."""
        trainer, train = self.trainer, self.splits.train
        assert trainer is not None
        for split in ("train", "val", "test"):
            self._check_size(split)
        if self.batch_size % trainer.world_size:
            raise InputError(
                f"data.batch_size={self.batch_size} counts all processes: expected a multiple of {trainer.world_size}"
            )
        # trainer.current_epoch is still that of the checkpoint when workers of a resumed run are fed at first
        progress: Any = trainer.fit_loop.epoch_progress.current
        process = (trainer.global_rank, trainer.world_size)
        batches = TrainingBatches(
            len(train), self.batch_size, self.repeats, self.seed, lambda: progress.processed, process
        )
        return self.loader(train, batches)

    def val_dataloader(self) -> DataLoader:
        """Return the validation set, in order."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the test set, in order."""
        return self._evaluation_loader("test")

    def _check_size(self, split: str) -> None:
        assert self.trainer is not None
        size = len(getattr(self.splits, split))
        if size < self.trainer.world_size:
            raise InputError(
                f"the {split} set of data.root={self.root} has {size} images: expected at least one a process "
                f"({self.trainer.world_size}); add images or change data.source.val_fraction and test_fraction"
            )

    def _evaluation_loader(self, split: str) -> DataLoader:
        assert self.trainer is not None
        self._check_size(split)
        pictures: ImageDataset = getattr(self.splits, split)
        process = (self.trainer.global_rank, self.trainer.world_size)
        return self.loader(pictures, EvaluationBatches(len(pictures), self.batch_size, process))

    def loader(self, pictures: ImageDataset, batches: TrainingBatches | EvaluationBatches) -> DataLoader:
        """Return whole batches of pictures, fetched at once."""
        workers = self.num_workers
        if workers is None:
            workers = 0 if isinstance(pictures, ImageSet) else os.cpu_count() or 1
        return DataLoader(
            pictures,  # type: ignore[arg-type]  # fetched through __getitems__ alone
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=as_fetched,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.trainer is not None and isinstance(self.trainer.accelerator, CUDAAccelerator),
        )


def as_fetched(raw: Any) -> Any:
    """Pass on what a set returned for a whole batch: there is nothing to collate."""
    return raw


def as_float(image: Tensor) -> Tensor:
    """Bytes to numbers in [0, 1]."""
    return image.float().div_(255)
