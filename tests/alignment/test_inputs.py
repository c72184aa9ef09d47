"""Arrays, PIL images, tensors and files: the same angle, and the aligned image in the kind that was passed."""

import re
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from property import property_test
from sample_images import DEGREES
from sklearn.datasets import load_sample_image

from stnrot import Alignment, align
from stnrot.alignment.inputs import read_pair
from stnrot.alignment.motion_kind import MotionKind
from stnrot.errors import InputError

SIDE = 96
WHOLE = Image.fromarray(load_sample_image("china.jpg")).crop((150, 60, 150 + SIDE, 60 + SIDE))
PAIR = (WHOLE, WHOLE.rotate(DEGREES, Image.Resampling.BICUBIC))
y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
INSIDE = np.hypot(x, y) < SIDE / 2 - 3
DTYPES = (np.uint8, np.uint16, ">u2", np.int16, np.int32, np.int64, np.float16, np.float32, np.float64, ">f4", bool)
FULL: dict[Any, float] = {np.uint8: 255, np.uint16: 65535, ">u2": 65535, np.int16: 9000, np.int32: 10**9, np.int64: 255}


def as_array(image: Image.Image, dtype: Any) -> np.ndarray:
    """Return the values of an image in another type, in the range that is usual for it."""
    if dtype is bool:
        return np.asarray(image) > 120
    share = np.asarray(image) / 255 * FULL.get(dtype, 1)
    return (share.round() if dtype in FULL else share).astype(dtype)


def degrees(found: Alignment) -> list[float]:
    return found.angle.rad2deg().tolist()


def check_aligned(aligned: np.ndarray, expected: np.ndarray, full: float) -> None:
    assert (aligned.shape, aligned.dtype) == (expected.shape, expected.dtype)
    difference = np.abs(aligned.astype(float) - expected.astype(float))[INSIDE].mean()
    assert difference < (0.1 if expected.dtype == bool else 0.01) * full
    corner = aligned[0, 0].astype(float)
    assert (np.abs(corner) <= 0.02 * full).all(), "black"


@property_test(
    dtype=st.sampled_from(DTYPES),
    other=st.sampled_from(DTYPES),
    grey=st.booleans(),
    other_grey=st.booleans(),
    backwards=st.booleans(),
)
def test_an_array_gives_an_array(dtype, other, grey: bool, other_grey: bool, backwards: bool) -> None:
    image, turned = (each.convert("L") if grey else each for each in PAIR)
    reference = PAIR[1].convert("L") if other_grey else PAIR[1]
    array = as_array(image, dtype)
    array = array[::-1][::-1] if backwards else array
    array.flags.writeable = False
    found = align(array, as_array(reference, other))
    assert degrees(found) == pytest.approx([DEGREES], abs=1 if bool in (dtype, other) else 0.3)
    check_aligned(found.aligned, as_array(turned, dtype), FULL.get(dtype, 1))


@st.composite
def anything(draw: st.DrawFn) -> Any:
    """Return a small image of any kind, shape, dtype and values, NaN and the largest numbers among them."""
    dtype = draw(hnp.scalar_dtypes() | st.sampled_from([np.dtype(each) for each in DTYPES]))
    shape = draw(st.lists(st.sampled_from((1, 2, 3, 4, 8, 9, 12)), max_size=5) | st.just([9, 8]) | st.just([9, 12, 3]))
    array = draw(hnp.arrays(dtype, shape, fill=st.nothing() if np.prod(shape) < 200 else None))
    kind = draw(st.sampled_from(("array", "tensor", "PIL", "list")))
    try:
        if kind == "tensor":
            return torch.from_numpy(array)
        if kind == "PIL":
            return Image.fromarray(array)
    except (TypeError, ValueError, IndexError):  # there is no tensor or PIL image of this dtype and shape
        pass
    return [array] * draw(st.integers(0, 3)) if kind == "list" else array


@property_test(image=anything(), reference=anything())
def test_an_answer_or_one_error(image: Any, reference: Any) -> None:
    for pair in ((image, reference), (image, image), (image, PAIR[0])):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = align(*pair)
        except InputError as error:
            message = str(error)
        else:
            check_answer(found, pair[0])
            continue
        assert "\n" not in message
        assert re.match(r"image|reference|the image|\d+ images", message)


def check_answer(found: Alignment, image: Any) -> None:
    shape = (len(found.image),)
    assert found.angle.shape == found.confidence.shape == found.mirrored.shape == shape
    assert found.angle.isfinite().all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    pairs = zip(image, found.aligned, strict=True) if isinstance(image, list) else [(image, found.aligned)]
    for before, aligned in pairs:
        assert type(aligned) is type(before) or isinstance(before, Image.Image)
        if isinstance(before, Image.Image):
            assert before.size == aligned.size
        else:
            assert aligned.dtype == before.dtype
            assert aligned.shape[-2:] == before.shape[-2:]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "P", "I", "I;16", "F"])
def test_a_pil_image_gives_a_pil_image(mode: str) -> None:
    image, turned = (each.convert("L") for each in PAIR)
    if mode == "I;16":
        image, turned = (Image.fromarray(as_array(each, np.uint16)) for each in (image, turned))
    elif mode == "1":
        image, turned = (Image.fromarray(as_array(each, bool)) for each in (image, turned))
    elif mode == "P":
        image, turned = PAIR[0].quantize(256), PAIR[1]
    else:
        image, turned = (each.convert(mode) for each in PAIR)
    found = align(image, PAIR[1])
    assert degrees(found) == pytest.approx([DEGREES], abs=0.6)
    assert image.mode == mode
    assert found.aligned.size == image.size
    assert found.aligned.mode == (mode if mode not in ("CMYK", "YCbCr", "P") else "RGB")
    full = {"I;16": 65535, "1": 1}.get(mode, 255)
    aligned, expected = np.asarray(found.aligned), np.asarray(turned.convert(found.aligned.mode))
    inside = np.abs(aligned.astype(float) - expected.astype(float))[INSIDE].mean()
    assert inside < (0.1 if mode == "1" else 0.02) * full
    if mode in ("LA", "RGBA"):
        assert aligned[0, 0, -1] == 0, "transparent"
        assert aligned[48, 48, -1] == 255


def test_all_kinds_of_one_image_have_one_angle(tmp_path: Path) -> None:
    for name, each in zip(("image.png", "reference.png"), PAIR, strict=True):
        each.save(tmp_path / name)
    files = tmp_path / "image.png", tmp_path / "reference.png"
    arrays = tuple(np.asarray(each) for each in PAIR)
    tensors = tuple(torch.from_numpy(each.copy()).permute(2, 0, 1) for each in arrays)
    by_files = align(*files)
    for image, reference in (
        PAIR,
        arrays,
        tensors,
        (files[0], arrays[1]),
        (arrays[0], tensors[1]),
        (tensors[0], PAIR[1]),
        (PAIR[0], files[1]),
    ):
        found = align(image, reference)
        torch.testing.assert_close(found.angle, by_files.angle, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.confidence, by_files.confidence, rtol=0, atol=1e-5)
    assert torch.equal(by_files.aligned, align(*(each / 255 for each in tensors)).aligned)


def test_the_angle_does_not_depend_on_the_scale_of_integers() -> None:
    pair = [np.asarray(each.convert("L")) for each in PAIR]
    angles = [
        align(*(torch.from_numpy(each.astype(np.int64) * scale).to(dtype) for each in pair)).angle.item()
        for dtype, scale in ((torch.int32, 1), (torch.int32, 2**23), (torch.int64, 2**40), (torch.int16, 100))
    ]
    np.testing.assert_allclose(angles, align(*pair).angle.item(), atol=1e-6)
    faint = [torch.from_numpy(each.astype(np.int32) + 10**9) for each in pair]  # more digits than a float32 holds
    np.testing.assert_allclose(align(*faint).angle.item(), angles[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int32, torch.float16, torch.float64])
def test_a_tensor_gives_a_batch_of_its_dtype(dtype: torch.dtype) -> None:
    grey = torch.from_numpy(np.asarray(PAIR[0].convert("L")).copy())
    image = grey > 120 if dtype is torch.bool else (grey / 255).to(dtype) if dtype.is_floating_point else grey.to(dtype)
    aligned = align(image, PAIR[1].convert("L")).aligned
    assert (aligned.dtype, aligned.shape) == (dtype, (1, 1, SIDE, SIDE))
    expected = np.asarray(PAIR[1].convert("L")) / 255
    seen = aligned[0, 0].double().numpy() / (1 if dtype is torch.bool or dtype.is_floating_point else 255)
    if dtype is not torch.bool:
        assert np.abs(seen - expected)[INSIDE].mean() < 0.01
    both = align([image, image[None]], grey).aligned
    assert (both.dtype, both.shape) == (dtype, (2, 1, SIDE, SIDE))


def test_the_aligned_values_are_those_of_opencv() -> None:
    """Bicubic sampling by OpenCV has the same coefficients (a = -0.75)."""
    image = np.asarray(PAIR[0].convert("L"))
    found = align(image, np.asarray(PAIR[1].convert("L")))
    middle = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    expected = cv2.warpAffine(
        image.astype(np.float32),
        cv2.getRotationMatrix2D(middle, *degrees(found), 1.0),
        (SIDE, SIDE),
        flags=cv2.INTER_CUBIC,
    )
    difference = np.abs(found.aligned - expected.clip(image.min(), image.max()))[INSIDE]
    assert difference.mean() < 1.5  # OpenCV rounds coordinates to a 32nd of a pixel
    assert found.aligned[INSIDE].min() >= image.min()


def test_batches_and_lists() -> None:
    arrays = [np.asarray(each) for each in PAIR]
    batch = np.stack((arrays[0], arrays[1]))
    found = align(batch, arrays[1])
    assert degrees(found) == pytest.approx([DEGREES, 0], abs=0.3)
    assert (found.aligned.shape, found.aligned.dtype) == ((2, SIDE, SIDE, 3), np.uint8)
    listed = align([arrays[0], PAIR[1].convert("RGBA"), PAIR[1].convert("L")], (arrays[1],))
    assert degrees(listed) == pytest.approx([DEGREES, 0, 0], abs=0.3)
    first, second, third = listed.aligned
    np.testing.assert_allclose(first, found.aligned[0], atol=1)
    assert (second.mode, third.mode) == ("RGBA", "L")
    assert isinstance(align([arrays[0]], arrays[1]).aligned, list)
    grey = [torch.rand(20, 20), torch.rand(1, 20, 20)]
    assert align(grey, grey).aligned.shape == (2, 1, 20, 20)


def test_a_list_is_mixed_with_files(tmp_path: Path) -> None:
    PAIR[0].save(tmp_path / "image.png")
    found = align([np.asarray(PAIR[1]), tmp_path / "image.png"], PAIR[0])
    assert degrees(found) == pytest.approx([-DEGREES, 0], abs=0.3)
    assert isinstance(found.aligned[0], np.ndarray)
    assert found.aligned[1].shape == (1, 3, SIDE, SIDE)


def test_what_was_passed_may_change_afterwards() -> None:
    array = np.asarray(PAIR[0]).copy()
    found, before = align(array, PAIR[1]), align(array, PAIR[1]).aligned
    array[:] = 0
    np.testing.assert_array_equal(found.aligned, before)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            None,
            "image: expected a tensor, a NumPy array, a PIL image, the path of an image, or a list of these, got NoneT",
        ),
        (b"image.png", "image: expected a tensor, .* got bytes"),
        (
            torch.ones(3, 30, 30, device="meta"),
            "image: expected a dense tensor .* without values",
        ),
        ([], "image: expected at least one image, got an empty list"),
        ([PAIR[0], None], r"image\[1\]: expected a tensor, .* got NoneType"),
        ([[0.5, 1], [2]], r"image\[0\]: expected a tensor, .* got list"),
        (iter([PAIR[0]]), "image: expected a tensor, .* got list_iterator"),
        (np.zeros((30, 30)), "image has one colour inside its inscribed disc"),
        (np.full((30, 30), np.nan), "image contains NaN or infinite values"),
        (np.full((2, 30, 30, 1), np.inf), r"image\[0\] contains NaN or infinite values"),
        (np.ones((30, 7)), "image is 7 x 30: expected sides of at least 8 pixels"),
        (np.ones((5, 30, 30)), r"image: expected an array .* got \[5, 30, 30\]; .* for a stack of grey images"),
        ([np.eye(30), np.eye(20)], r"image\[1\] is 20 x 20, image\[0\] is 30 x 30: expected images of one size"),
        ([np.ones((2, 30, 30, 1))] * 2, r"image\[0\] holds 2 images: expected one image in each place of a list"),
        ([torch.eye(30), torch.rand(3, 30, 30)], r"image\[1\] has 3 channels, image\[0\] 1: expected the same number"),
        (torch.rand(30, 30, 3), r"image: expected \[C, H, W\], got \[30, 30, 3\]"),
        (torch.rand(2, 30, 30), "the image has 2 channels, the reference 3: expected the same number"),
    ],
)
def test_a_wrong_image_is_named_in_one_line(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        unchecked(read_pair)(image, PAIR[0], None, "rotation")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("motion", ["rigid", "similarity"])
def test_an_image_that_is_far_too_small_for_the_other_is_refused_in_one_line(motion: MotionKind) -> None:
    scene = np.random.default_rng(0).random((300, 400))
    part = scene[:9, :8]
    words = (
        "{0} is 400 x 300, {1} is 8 x 9: expected shorter sides that differ by a factor of at most 32; crop {0} to "
        "where {1} may be, or show more in {1}"
    )
    for pair, roles in (((part, scene), ("reference", "image")), ((scene, part), ("image", "reference"))):
        with pytest.raises(InputError, match=re.escape(words.format(*roles))):
            align(*pair, motion=motion)
        assert align(*pair).angle.isfinite().all()
    for image, reference in ((scene[:9, :10], scene[:288]), (scene[:8], scene[:10])):  # just enough; two strips
        unchecked(read_pair)(image, reference, None, motion)


def unchecked(function: Any) -> Any:
    """Return a function as users have it: under pytest, annotations are checked in front of it."""
    return getattr(function, "__wrapped__", function)
