"""Files as those of mnist-rot, written by numpy from scikit-learn's digits that Pillow has rotated."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import composed
from hydra.utils import instantiate
from PIL import Image

from stnrot.callbacks.leak_check import LeakCheck
from stnrot.data.rng import Split
from stnrot.data.rotated import RotatedImages
from stnrot.data.sources import mnist_rot_files
from stnrot.data.sources.digits import digits
from stnrot.data.sources.mnist import mnist_pooled
from stnrot.data.sources.mnist_rot_files import NAME, read_amat
from stnrot.errors import InputError

LINES = 40


@pytest.fixture(scope="module")
def rotated() -> tuple[np.ndarray, np.ndarray]:
    """Digits that the reader does not compare with, each rotated by another angle, and their classes."""
    held_out = digits(None, 0).test.subset(torch.arange(LINES))
    upright = [Image.fromarray(each[0].numpy()) for each in held_out.image]
    turned = [each.rotate(360 * k / LINES, Image.Resampling.BICUBIC) for k, each in enumerate(upright)]
    return np.stack([np.asarray(each) for each in turned]), held_out.label.numpy()


def write(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    np.savetxt(path, np.column_stack((image.reshape(len(image), -1) / 255, label)), fmt="%.7e")
    return path


@pytest.mark.parametrize("by_columns", [False, True])
def test_images_are_as_they_are_written_by_hand(by_columns: bool, rotated, tmp_path: Path) -> None:
    image, label = rotated
    path = write(tmp_path / "some.amat", image.transpose(0, 2, 1) if by_columns else image, label)
    found = read_amat(path, LINES)
    np.testing.assert_array_equal(found.image[:, 0].numpy(), image)
    np.testing.assert_array_equal(found.label.numpy(), label)


@pytest.mark.slow
def test_the_order_of_the_axes_is_told_from_twenty_digits() -> None:
    from stnrot.data.sources.mnist import mnist
    from stnrot.geometry import rotate_bicubic

    test = mnist(Path(os.environ["STNROT_MNIST"]), 0, fit_validation=False).test
    angle = torch.rand(400, generator=torch.Generator().manual_seed(0)) * 7
    image = rotate_bicubic(test.image[:400].float(), angle).clamp(0, 255).byte()
    for few, label in zip(image.split(20), test.label[:400].split(20), strict=True):
        assert not mnist_rot_files._by_columns(few, label)
        assert mnist_rot_files._by_columns(few.mT, label)


def cut_line(text: str) -> str:
    return text[:-300]


def cut_file(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:30])


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "cut in a line": (cut_line, "expected 785 numbers in each line, the pixels and the class, got 7.. in line 40"),
    "cut after a line": (cut_file, "expected 40 lines, got 30; the file is cut: download it again"),
    "empty": (lambda text: "", "expected 40 lines, got 0; the file is cut: download it again"),
    "two files in one": (lambda text: text + text, "expected 40 lines, got more; download it again"),
    "words": (lambda text: text.replace(" ", " a", 1), "expected 785 numbers in each line.*got something else"),
    "an empty line": (lambda text: "\n" + text, "expected 785 numbers in each line.*got 0 in line 1"),
    "one endless line": (lambda text: text.replace("\n", " "), "expected 785 numbers in each line.*in line 1"),
    "class 10": (
        lambda text: re.sub(r"\S+\n$", "10\n", text),
        "expected pixels from 0 to 1 and then a class from 0 to 9, got others in line 40",
    ),
    "not a number": (lambda text: text.replace("0.0000000e+00", "nan", 1), "got others in line 1"),
    "not text": (lambda text: "\xfc" + text, "'ascii' codec can't decode.*expected the text file of mnist-rot"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_in_one_line(case: str, rotated, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    path = write(tmp_path / "some.amat", *rotated)
    path.write_text(change(path.read_text()), encoding="latin-1")
    with pytest.raises(InputError, match=f"some.amat: .*{message}"):
        read_amat(path, LINES)


@pytest.fixture
def originals(rotated, tmp_path: Path, monkeypatch) -> Path:
    """Return a folder with both files, which are shorter than the real ones."""
    image, label = rotated
    monkeypatch.setattr(mnist_rot_files, "LINES", {"train_valid": 24, "test": 16})
    write(tmp_path / NAME.format("train_valid"), image[:24], label[:24])
    write(tmp_path / NAME.format("test"), image[24:], label[24:])
    return tmp_path


def test_the_first_lines_train_and_the_last_validate(originals: Path, rotated) -> None:
    image, label = rotated
    parts = {False: (image[:20], image[20:24], image[24:]), True: (image[:24], image[20:24], image[24:])}
    for fit_validation, expected in parts.items():
        splits = mnist_pooled(originals, 0, fit_validation)
        assert splits.turned
        for found, truth in zip((splits.train, splits.val, splits.test), expected, strict=True):
            np.testing.assert_array_equal(found.image[:, 0].numpy(), truth)
    np.testing.assert_array_equal(splits.test.label.numpy(), label[24:])


def test_the_text_is_read_once(originals: Path, rotated) -> None:
    read = partial(mnist_pooled, originals, 0, False)
    first = read()
    path = originals / NAME.format("test")
    kept = path.with_suffix(".npz")
    before, text = path.stat(), path.read_text()
    path.write_text("x" * len(text))  # the text is not read again
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert torch.equal(read().test.image, first.test.image)
    path.write_text(text)
    kept.write_bytes(b"no archive")
    assert torch.equal(read().test.image, first.test.image)
    write(path, rotated[0][24:], (rotated[1][24:] + 1) % 10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 1))  # an older file takes its place
    assert torch.equal(read().test.label, (first.test.label + 1) % 10)
    path.unlink()
    kept.unlink()
    with pytest.raises(InputError, match=r"test\.amat: .*No such file"):
        read()


def test_images_are_shown_as_they_are_stored(originals: Path, rotated) -> None:
    data: RotatedImages = instantiate(composed("train", "data=mnist_rot", f"data.root={originals}").data)
    data.setup()
    for split, part in ((Split.TRAIN, rotated[0][:20]), (Split.TEST, rotated[0][24:])):
        batch = data.view(data.splits.part(split).__getitems__(torch.arange(10)), split)
        assert batch.angle is None
        np.testing.assert_allclose(batch.image[:, 0].numpy(), part[:10] / 255, atol=1e-5)
    with pytest.raises(InputError, match=r"rotates upright .* got images that are stored rotated"):
        LeakCheck(".").setup(SimpleNamespace(datamodule=data), None, "test")
