"""MNIST by torchvision: with its official test set, or pooled as in the mnist-rot protocol."""

from pathlib import Path

import torch
from torchvision.datasets import MNIST

from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.rng import permutation
from stnrot.data.sources.download import download_missing
from stnrot.data.sources.mnist_rot_files import has_original_files, original_files
from stnrot.errors import check_choice

CLASSES = tuple("0123456789")
POOLED = (10_000, 2_000, 50_000, 8_000)  # images to train, to validate, to test, and not used, of `mnist_pooled`


def mnist(root: Path | None, split_seed: int, fit_validation: bool) -> Splits:
    """Return MNIST: 55,000 images to train and 5,000 to validate, split by `split_seed`; the official 10,000 to test.

    With `fit_validation` the training set has all 60,000, as in published figures. Use it when all options are chosen,
    and for a fixed number of epochs: the validation images are trained on, so their metrics mean nothing.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998.
    """
    check_choice("data.source.fit_validation", fit_validation, True, False)
    train, test = _load(root)
    order = permutation((split_seed,), len(train))
    fit, val = order.split((55_000, 5_000))
    return Splits(train.subset(order if fit_validation else fit), train.subset(val), test, CLASSES)


def mnist_pooled(root: Path | None, split_seed: int, fit_validation: bool) -> Splits:
    """Return 10,000 images to train, 2,000 to validate and 50,000 to test, drawn from all 70,000 by `split_seed`.

    With `fit_validation` the training set has all 12,000: see `mnist`.

    If `root` holds the original files of mnist-rot, they are returned in their order, `split_seed` is not used, and the
    angles are not known: see `original_files`.

    Source: H. Larochelle et al., An empirical evaluation of deep architectures on problems with many factors of
    variation, 2007. Without their files the numbers of images are theirs; which images they drew and how they rotated
    them is not reproduced.
    """
    check_choice("data.source.fit_validation", fit_validation, True, False)
    if root is not None and has_original_files(root):
        first, test = original_files(root)
        fit, val = torch.arange(len(first)).tensor_split([len(first) * 5 // 6])  # 10,000 and 2,000
        return Splits(first if fit_validation else first.subset(fit), first.subset(val), test, CLASSES, turned=True)
    pooled = all_digits(root)
    order = permutation((split_seed,), len(pooled))
    fit, val, rest, _ = order.split(POOLED)
    train = torch.cat((fit, val)) if fit_validation else fit
    return Splits(pooled.subset(train), pooled.subset(val), pooled.subset(rest), CLASSES)


def all_digits(root: Path | None) -> ImageSet:
    """Return the 60,000 training images of MNIST, then its 10,000 test images."""
    train, test = _load(root)
    assert train.label is not None
    assert test.label is not None
    return ImageSet(torch.cat((train.image, test.image)), torch.cat((train.label, test.label)))


def _load(root: Path | None) -> tuple[ImageSet, ImageSet]:
    files = [Path("MNIST", "raw", Path(url).stem) for url, _ in MNIST.resources]
    root = download_missing(MNIST, root, files, "MNIST/raw")
    sets = (MNIST(str(root), train=train) for train in (True, False))
    first, second = (ImageSet(part.data[:, None], part.targets) for part in sets)
    return first, second
