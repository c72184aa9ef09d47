"""CIFAR-10: photographs of ten classes, from the files of torchvision or from class folders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor
from torchvision.datasets import CIFAR10

from stnrot.data.batch import RawBatch
from stnrot.data.image_file import read_upright
from stnrot.data.image_set import ImageDataset, ImageSet, Splits, balanced_order
from stnrot.data.sources.download import download_missing
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.folder_tree import images_below
from stnrot.errors import InputError, check_choice

SIDE = 32  # pixels of the stored images
MOST_PIXELS = 100_000_000  # of a file, which is then refused by its size
VALIDATION = 10  # one in ten training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True)
class CIFAR10Source:
    """Read CIFAR-10: nine tenths of its training set to train and a tenth to validate, its official test set to test.

    The folder `root` holds `cifar-10-batches-py`, the files of torchvision, which are downloaded if they are missing.
    Or it holds the images in class folders, `train/CLASS/image` and `test/CLASS/image`; some of the classes will do.
    The validation set is drawn by `split_seed` and has as many images of each class. All images are kept in memory, at
    32 x 32 pixels.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.

    Args:
        image_size: height and width of the images, equal. Those of other sizes are resampled (bicubic) when they are
            fetched.
        fit_validation: train on the validation set too, as in published figures. Use it when all options are chosen,
            and for a fixed number of epochs: the metrics of the validation set then mean nothing.
    """

    image_size: Sequence[int]
    fit_validation: bool

    def __post_init__(self) -> None:
        sides = self.image_size if isinstance(self.image_size, Sequence) else ()
        if len(sides) != 2 or not all(type(side) is int and side >= 4 for side in sides) or sides[0] != sides[1]:
            raise InputError(
                f"image_size={self.image_size}: expected two equal sides of at least 4 pixels, such as [32,32]"
            )
        check_choice("fit_validation", self.fit_validation, True, False)

    def __call__(self, root: Path | None, split_seed: int) -> Splits:
        """Return the training, validation and test images below `root`."""
        here = root is not None and ((root / "train").is_dir() or (root / CIFAR10.base_folder).is_dir())
        if root and not here and root.name in ("train", "test") and (root.parent / "test").is_dir():
            raise InputError(f"data.root={root}: expected the folder that holds train and test, {root.parent}")
        train, official, classes = _class_folders(root) if root and (root / "train").is_dir() else _batches(root)
        assert train.label is not None
        order = balanced_order(train.label, (split_seed,))
        validation = len(order) // VALIDATION
        if not validation:
            raise InputError(f"data.root={root}: expected at least {VALIDATION} training images, got {len(order)}")
        fit: ImageDataset = train.subset(order if self.fit_validation else order[validation:])
        val: ImageDataset = train.subset(order[:validation])
        test: ImageDataset = official
        side = self.image_size[0]
        if side != SIDE:
            fit, val, test = (ResampledImages(part, side) for part in (fit, val, test))
        return Splits(fit, val, test, classes)


@dataclass(frozen=True)
class ResampledImages:
    """Square images in memory that are resampled to `side` x `side` pixels when they are fetched."""

    images: ImageDataset
    side: int

    @property
    def label(self) -> Int[Tensor, "N"] | None:
        """The class of each image."""
        return self.images.label

    @property
    def names(self) -> Sequence[str] | None:
        """The path of each image."""
        return self.images.names

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.images.shape[0], self.side, self.side

    @property
    def paired(self) -> bool:
        """Whether every image has a reference."""
        return False

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> RawBatch:
        raw = self.images.__getitems__(counters)
        size = (self.side, self.side)
        image = F.interpolate(raw.image, size=size, mode="bicubic", align_corners=False, antialias=True)
        return raw._replace(image=image)

    def subset(self, index: Int[Tensor, "M"]) -> "ResampledImages":
        """Return the images at `index`, in that order."""
        return replace(self, images=self.images.subset(index))


def _batches(root: Path | None) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    files = [Path(CIFAR10.base_folder, name) for name in (*names, str(CIFAR10.meta["filename"]))]
    root = download_missing(CIFAR10, root, files, f"{CIFAR10.base_folder}, or class folders in train and test")
    sets = [CIFAR10(str(root), train=train) for train in (True, False)]  # compares the files with their MD5 sums
    train, test = (
        ImageSet(torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))), torch.tensor(part.targets))
        for part in sets
    )
    return train, test, CLASSES


def _class_folders(root: Path) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    found = {part: images_below(root / part) for part in ("train", "test") if (root / part).is_dir()}
    classes = {part: {*labels} for part, (_, labels) in found.items()}
    if not classes["train"] or classes["train"] != classes.get("test") or None in classes["train"]:
        raise InputError(
            f"data.root={root}: expected the images of CIFAR-10 in train/CLASS and test/CLASS, with the same classes; "
            "for images of your own use data=image_folder"
        )
    names = tuple(sorted(name for name in classes["train"] if name is not None))
    train, test = (_in_memory(*images, names) for images in found.values())
    return train, test, names


def _in_memory(files: FileNames, labels: Sequence[str | None], classes: tuple[str, ...]) -> ImageSet:
    # in one thread: most of the time of a small file is spent in Python, which runs one thread at a time
    pixels = np.stack([_pixels(Path(file)) for file in files])
    number: dict[str | None, int] = {name: k for k, name in enumerate(classes)}
    label = torch.tensor([number[name] for name in labels])
    return ImageSet(torch.from_numpy(pixels), label, names=tuple(files))


def _pixels(path: Path) -> UInt8[np.ndarray, "3 h w"]:
    image = read_upright(path, 3, MOST_PIXELS, (SIDE, SIDE))
    if image.size != (SIDE, SIDE):
        raise InputError(
            f"{path} is {image.width} x {image.height}: expected {SIDE} x {SIDE} pixels, as in CIFAR-10; for images of "
            "your own use data=image_folder"
        )
    return np.asarray(image).transpose(2, 0, 1)
