"""The base of datamodules of images: splits of a source, their data spec, workers that decode."""

import inspect
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stnrot.data.batch import Batch, RawBatch
from stnrot.data.datamodule import BatchDataset, DataModule
from stnrot.data.image_set import ImageDataset, ImageSet, Splits, balanced_order
from stnrot.data.rng import Purpose, Split
from stnrot.errors import InputError, check_number
from stnrot.machine import allowed_cores

MOST_WORKERS = 1024  # more than any machine has cores for
Source = Callable[[Path | None, int], Splits]


@dataclass(kw_only=True, eq=False, repr=False)
class ImageData(DataModule):
    """Send whole batches of bytes to the device and make a `Batch` of them there.

    Args:
        source: called with (root, split_seed); returns the splits.
        root: folder or file of the images; None for a source that needs none.
        n_train: keep this many training images, balanced over the classes; None keeps all.
        num_workers: processes that fetch images; None uses one for each core that the process may use if the set is
            streamed, none if it is in memory.
    """

    more_samples = "add images or change data.source.val_fraction and data.source.test_fraction"

    source: Source
    root: str | None
    n_train: int | None
    num_workers: int | None
    splits: Splits = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.root is None or (isinstance(self.root, str | os.PathLike) and str(self.root))):
            raise InputError(
                f"root={self.root}: expected the path of a folder or file, or null; for a name of digits write ./2026"
            )
        if self.n_train is not None:
            check_number("n_train", self.n_train, 1)
        if self.num_workers is not None:
            check_number("num_workers", self.num_workers, 0, MOST_WORKERS)
        try:
            inspect.signature(self.source).bind(self.root, self.split_seed)
        except (TypeError, ValueError) as error:  # of a partial function the TypeError is the cause
            reason = error.__cause__ or error
            raise InputError(f"source: {reason}; expected the options that configs/data/source lists") from error

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once."""
        if hasattr(self, "splits"):
            return
        splits = self.source(None if self.root is None else Path(self.root).expanduser(), self.split_seed)
        self.splits = replace(splits, train=self._keep(splits.train))

    def _keep(self, train: ImageDataset) -> ImageDataset:
        if self.n_train is None:
            return train
        if not max(1, 0 if train.label is None else len(train.label.unique())) <= self.n_train <= len(train):
            raise InputError(
                f"data.n_train={self.n_train}: expected at most the {len(train)} training images there are, "
                "and at least one for each class"
            )
        label = torch.zeros(len(train), dtype=torch.int64) if train.label is None else train.label
        order = balanced_order(label, (self.split_seed, Purpose.SUBSET))
        return train.subset(order[: self.n_train])

    def spec(self) -> dict[str, Any]:
        """Return the shape of an image and the classes."""
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

    def check_trained_on(self, trained: Mapping[str, Any], model: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise InputError if a model was trained on other channels or classes, or needs images of another size."""
        super().check_trained_on(trained, model, checkpoint)
        given = self.spec()
        fixed = ("channels", "height", "width") if model.get("reference") == "learned" else ("channels",)
        for name in fixed:
            if trained[name] != given[name]:
                raise InputError(
                    f"{checkpoint} was trained on images with {name}={trained[name]}, this data has {given[name]}: "
                    "choose data of that shape, or set data.source.image_size and data.source.channels"
                )
        if model.get("classifier") is not None and trained["class_names"] != given["class_names"]:
            raise InputError(
                f"{checkpoint} was trained on the classes {trained['class_names']}, "
                f"this data has {given['class_names']}: choose data with the classes of that run"
            )

    def dataset(self, split: Split) -> ImageDataset:
        """Return one of the three sets."""
        return self.splits.part(split)

    @abstractmethod
    def view(self, raw: RawBatch, split: Split) -> Batch:
        """Return what a task receives, computed on the device as a function of the counters."""

    def workers(self, dataset: BatchDataset) -> int:
        """Return `num_workers`; by default 0 for a set in memory, and the allowed cores for a streamed set."""
        if self.num_workers is not None:
            return self.num_workers
        return 0 if isinstance(dataset, ImageSet) else allowed_cores()


def as_float(image: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Convert bytes to numbers in [0, 1]."""
    return image.float().div_(255)
