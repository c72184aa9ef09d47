"""The original files of mnist-rot: text, one image a line, rotated by angles that nobody has kept."""

import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from stnrot.data.image_set import ImageSet
from stnrot.data.sources.digits import digits
from stnrot.errors import InputError, reason_of
from stnrot.geometry import rotate_bicubic
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write

log = logging.getLogger(__name__)

NAME = "mnist_all_rotation_normalized_float_{}.amat"
LINES = {"train_valid": 12_000, "test": 50_000}  # 10,000 to train, then 2,000 to validate
SIDE = 28  # pixels
NUMBERS = SIDE**2 + 1  # of a line: the pixels, from 0 to 1, and the class
LONGEST = 50_000  # characters of a line
SLACK = 0.01  # by which a pixel may be outside [0, 1]
CHUNK = 1000  # lines that are text in memory at once
COMPARED, DIRECTIONS = 200, 36  # images and angles that are compared to find the order of the axes


def has_original_files(root: Path) -> bool:
    """Return whether a folder holds one of the two files."""
    return any((root / NAME.format(part)).exists() for part in LINES)


def original_files(root: Path) -> tuple[ImageSet, ImageSet]:
    """Return the 12,000 images to train and to validate, and the 50,000 to test, in the order of the files.

    The text is read once, and the images are kept as bytes beside it.

    Raises:
        InputError: if a file is missing, cut, or has other numbers.

    Source: H. Larochelle et al., An empirical evaluation of deep architectures on problems with many factors of
    variation, 2007.
    """
    first, second = (_kept(root / NAME.format(part), lines) for part, lines in LINES.items())
    return first, second


def _kept(path: Path, lines: int) -> ImageSet:
    """Return the images of a file: from the bytes beside it, if they are those of this text, else from the text."""
    check_regular(path)
    cache = path.with_suffix(".npz")
    check_regular(cache)
    try:
        text = path.stat()
        state = np.array([text.st_size, text.st_mtime_ns])
        with np.load(cache, allow_pickle=False) as stored:
            image, label = stored["image"], stored["label"]
            whole = image.shape == (lines, SIDE, SIDE) and label.shape == (lines,) and image.dtype == np.uint8
            if whole and np.array_equal(stored["state"], state):
                return ImageSet(torch.from_numpy(image)[:, None], torch.from_numpy(label).long())
    except Exception as error:  # none yet, or a broken file, which can raise almost anything
        log.debug("%s: %s", cache, error)
    found = read_amat(path, lines)
    assert found.label is not None
    try:
        with atomic_write(cache) as new, new.open("wb") as file:
            np.savez(file, image=found.image[:, 0].numpy(), label=found.label.to(torch.uint8).numpy(), state=state)
    except OSError as error:
        log.info("%s cannot be written (%s): the next start reads the text again", cache, reason_of(error))
    return found


def read_amat(path: Path, lines: int) -> ImageSet:
    """Read a text file with the pixels and the class of an image on each line.

    The first images are compared with upright digits. This shows whether the file has them row by row or column by
    column.

    Args:
        path: of the file.
        lines: that it has to have.

    Raises:
        InputError: if the file is missing, cut, or has other numbers.
    """
    image, label = torch.empty(lines, SIDE**2, dtype=torch.uint8), torch.empty(lines, dtype=torch.int64)
    try:
        with path.open(encoding="ascii") as file:
            for done in range(0, lines, CHUNK):
                wanted = min(CHUNK, lines - done)
                text = [line for _ in range(wanted) if (line := file.readline(LONGEST))]
                numbers = torch.from_numpy(_numbers(text, path, done))
                if len(text) < wanted:
                    got = f"{done + len(text):,}"
                    raise InputError(f"{path}: expected {lines:,} lines, got {got}; the file is cut: download it again")
                image[done : done + wanted] = (numbers[:, :-1] * 255).round().clamp(0, 255).to(torch.uint8)
                label[done : done + wanted] = numbers[:, -1].long()
            if file.readline(LONGEST).strip():
                raise InputError(f"{path}: expected {lines:,} lines, got more; download it again")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {reason_of(error)}; expected the text file of mnist-rot") from error
    found = image.view(-1, 1, SIDE, SIDE)
    return ImageSet(found.mT.contiguous() if _by_columns(found, label) else found, label)


def _numbers(text: list[str], path: Path, before: int) -> Float32[np.ndarray, "lines numbers"]:
    """Return the numbers of some lines, of which there are `before` others before them in the file."""
    try:
        table = np.loadtxt(text, np.float32, comments=None, ndmin=2) if text else np.zeros((0, NUMBERS), np.float32)
    except ValueError:
        table = np.zeros((0, 0), np.float32)
    if table.shape != (len(text), NUMBERS):
        counts = [len(line.split()) for line in text]
        bad = next((place for place, count in enumerate(counts) if count != NUMBERS), None)
        got = "something else" if bad is None else f"{counts[bad]} in line {before + bad + 1}"
        raise InputError(f"{path}: expected {NUMBERS} numbers in each line, the pixels and the class, got {got}")
    pixels, label = table[:, :-1], table[:, -1]
    good = (abs(pixels - 0.5) <= 0.5 + SLACK).all(1) & np.isin(label, range(10))
    if not good.all():
        raise InputError(
            f"{path}: expected pixels from 0 to 1 and then a class from 0 to 9, got others in line "
            f"{before + int(good.argmin()) + 1}"
        )
    return table


def _by_columns(image: UInt8[Tensor, "N 1 h w"], label: Int[Tensor, "N"]) -> bool:
    """Return whether the images are transposed, and so mirrored: no rotation makes them digits as they are written.

    Each image is compared with the upright digits of its class at 36 angles, as it is and transposed. The better of the
    two has the higher correlation with the most similar digit. With 20 images this never failed in 20 draws of MNIST.
    """
    examples = digits(None, 0).train
    assert isinstance(examples, ImageSet)
    assert examples.label is not None
    gain = 0.0
    for number in label[:COMPARED].unique():
        upright = examples.image[examples.label == number].float()
        angle = torch.arange(DIRECTIONS).repeat_interleave(len(upright)) * (2 * math.pi / DIRECTIONS)
        turned = _normalised(rotate_bicubic(upright.repeat(DIRECTIONS, 1, 1, 1), angle))
        given = image[:COMPARED][label[:COMPARED] == number].float()
        as_it_is, transposed = ((_normalised(each) @ turned.T).amax(1).sum() for each in (given, given.mT))
        gain += float(transposed - as_it_is)
    return gain > 0


def _normalised(image: Float[Tensor, "N 1 h w"]) -> Float[Tensor, "N pixels"]:
    """Return the pixels of each image with mean 0 and norm 1."""
    pixels = image.flatten(1)
    return F.normalize(pixels - pixels.mean(1, keepdim=True), dim=1)
