"""A TIFF file of many pages, read by tifffile and by Pillow."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from stnrot.data import tiff_stack
from stnrot.data.image_file import page_numbers, read_pages
from stnrot.data.tiff_stack import TiffStack
from stnrot.errors import InputError

KINDS = {
    "grey": ((), "uint8"),
    "16 bits": ((), "uint16"),
    "32 bits": ((), "int32"),
    "float": ((), "float32"),
    "grey and alpha": ((2,), "uint8"),
    "colour": ((3,), "uint8"),
    "colour and alpha": ((4,), "uint8"),
    "two values": ((), "bool"),
}


def pages(kind: str, count: int, size: tuple[int, int] = (7, 11)) -> np.ndarray:
    channels, dtype = KINDS[kind]
    random = np.random.default_rng(0).uniform(0, 200, (count, *size, *channels))
    return random > 100 if dtype == "bool" else random.astype(dtype)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_pages_in_any_order(kind: str, big: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if big:
        monkeypatch.setattr(tiff_stack, "CLASSIC", 0)
    expected, path = pages(kind, 5), tmp_path / "stack.tif"
    stack = TiffStack(path, expected[0], 3)
    for page in (2, 0):
        stack.write(page, expected[page])
    stack.close()
    stack = TiffStack(path, expected[0], 5)  # has two more
    stack.write(4, expected[4])
    stack.close()
    expected[[1, 3]] = 0
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert len(file.pages) == 5
        assert np.array_equal(np.stack([page.asarray() for page in file.pages]), expected)
    with Image.open(path) as image:
        assert image.n_frames == 5
        for page in range(5):
            image.seek(page)
            assert np.array_equal(np.asarray(image), expected[page])


def test_another_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = TiffStack(path, pages("grey", 1)[0], 3)
    with pytest.raises(InputError, match=r"11 x 7 uint16, those of the first frame 11 x 7 uint8"):
        stack.write(0, pages("16 bits", 1)[0])
    stack.close()
    with pytest.raises(InputError, match=r"stack\.tif has pages of another size or kind"):
        TiffStack(path, pages("grey", 1, (8, 11))[0], 3)


def test_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    """As in the pyramids of slides and maps."""
    path, image = tmp_path / "pyramid.tif", pages("grey", 1, (32, 32))[0]
    with tifffile.TiffWriter(path) as file:
        for pixels, subfile in ((image, 0), (image[::2, ::2], 1), (image.T, 0)):
            file.write(pixels, subfiletype=subfile, metadata=None)
    assert page_numbers(path, 10_000) == [0, 2]
    first, last = read_pages(path, [0, 2], 10_000)
    assert np.array_equal(first, image)
    assert np.array_equal(last, image.T)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_file_has_the_pages_before(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    expected = pages("grey", 4, (64, 64))
    with tifffile.TiffWriter(path) as file:
        for page in expected:
            file.write(page, metadata=None)
    path.write_bytes(path.read_bytes()[: 2 * 64 * 64 + 1000])
    numbers = page_numbers(path, 10_000)
    found = list(read_pages(path, numbers, 10_000))
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert len(found) > 2
    for number, error in zip(numbers[2:], found[2:], strict=True):
        assert f"cannot read page {number + 1} of {path}" in str(error)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_colours_of_16_bits_are_refused(suffix: str, tmp_path: Path) -> None:
    """Pillow would read the upper 8 bits of them without a word."""
    import cv2

    path = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(path), np.full((16, 16, 3), 999, np.uint16))
    (error,) = read_pages(path, [0], 10_000)
    assert "16 bits in each of several channels" in str(error)
