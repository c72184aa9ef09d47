"""Images of every kind to floats and back. scikit-image, OpenCV, Pillow and NumPy give what is expected."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from property import property_test
from skimage.util import img_as_float64

from stnrot.errors import InputError
from stnrot.image_kinds import to_floats

DTYPES = ("?", "u1", "<u2", ">u2", "i1", "<i2", ">i4", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8")
TENSOR_DTYPES = [torch.bool, torch.uint8, torch.uint16, torch.int8, torch.int16, torch.int32, torch.uint32, torch.int64]
TENSOR_DTYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
NARROWEST = 5  # a tensor of fewer columns is refused: they look like channels
EXACT = 2**53  # integers up to it have a float of their own


def rearranged(how: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives an array other strides, but neither another shape nor other values."""
    return {
        "contiguous": lambda a: a,
        "fortran": np.asfortranarray,
        "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
        "every second": lambda a: np.repeat(a, 2, 1)[:, ::2],
        "read-only": lambda a: np.broadcast_to(a, a.shape),
        "subclass": lambda a: np.asarray(a).view(type("Photograph", (np.ndarray,), {})),
    }[how]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    grey, height, width = draw(st.booleans()), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    channels = draw(st.sampled_from((1, 3)))
    shape = (height, width) if grey else (*[draw(st.integers(1, 3))] * draw(st.integers(0, 1)), height, width, channels)
    elements: dict = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        elements = {"min_value": max(limits.min, -EXACT), "max_value": min(limits.max, EXACT)}
    values = draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **elements)))
    return rearranged(
        draw(st.sampled_from(("contiguous", "fortran", "backwards", "every second", "read-only", "subclass")))
    )(values)


@property_test(array=arrays())
def test_arrays(array: np.ndarray) -> None:
    floats = to_floats(array, "image")
    known = array.dtype.name in ("bool", "uint8", "uint16")
    with np.errstate(over="ignore"):
        expected = img_as_float64(np.asarray(array)) if known else np.asarray(array, np.float64)
    batch = expected.reshape(-1, *array.shape[-3:]) if array.ndim > 2 else expected[None, ..., None]
    assert floats.planes.shape == (len(batch), batch.shape[-1], *batch.shape[1:3])
    np.testing.assert_allclose(floats.planes.permute(0, 2, 3, 1).numpy(), batch, rtol=1e-6, atol=0)
    back = floats.restore(floats.planes)
    assert (type(back), back.dtype, back.shape) == (np.ndarray, array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert not np.shares_memory(back, array)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(TENSOR_DTYPES))
    shape = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    shape += [draw(st.integers(1, 7)), draw(st.integers(NARROWEST, 9))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = (
        torch.rand(shape, generator=generator, dtype=torch.float64) * draw(st.sampled_from((1, 2, 300, 70000)))
    ).to(dtype)
    how = draw(st.sampled_from(("contiguous", "transposed", "expanded", "every second", "channels_last", "gradient")))
    if how == "transposed":
        return values.mT.contiguous().mT
    if how == "expanded":
        return values[..., :1, :].expand(values.shape)
    if how == "every second":
        return torch.stack((values, values), -1)[..., 0]
    if how == "channels_last" and values.ndim == 4:
        return values.contiguous(memory_format=torch.channels_last)
    return values.requires_grad_() if how == "gradient" and dtype.is_floating_point else values


@property_test(image=tensors())
def test_tensors(image: torch.Tensor) -> None:
    floats = to_floats(image, "image")
    full = {torch.uint8: 255, torch.uint16: 65535}.get(image.dtype, 1)
    expected = image.detach().double().numpy().reshape((1,) * (4 - image.ndim) + tuple(image.shape)) / full
    np.testing.assert_allclose(floats.planes.numpy(), expected, rtol=1e-6)
    back = floats.restore(floats.planes)
    assert back.dtype == image.dtype
    assert not back.requires_grad
    assert torch.equal(
        back, image.detach().view(expected.shape) if image.is_contiguous() else image.detach().reshape(expected.shape)
    )


@property_test(array=hnp.arrays(np.uint8, (5, 6, 4)), deep=st.booleans())
def test_transparent_parts_are_black_and_return(array: np.ndarray, deep: bool) -> None:
    """Pillow composites the same image on black."""
    image = Image.fromarray(array)
    expected = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB"))
    given_array = array.astype(np.uint16) * 257 if deep else array
    floats = to_floats(given_array, "image")
    np.testing.assert_allclose(floats.colours[0].permute(1, 2, 0).numpy(), expected / 255, atol=1.01 / 255)
    visible = array[..., 3:] > 0
    np.testing.assert_array_equal(floats.restore(floats.planes), given_array * visible)
    grey = to_floats(given_array[..., 2:], "image")  # grey and alpha
    np.testing.assert_allclose(grey.colours[0, 0].numpy(), expected[..., 2] / 255, atol=1.01 / 255)
    np.testing.assert_array_equal(grey.restore(grey.planes), given_array[..., 2:] * visible)


@property_test(array=hnp.arrays(np.float32, (5, 6, 3), elements=st.floats(0, 1, width=32)))
def test_grey_is_that_of_opencv_and_pillow(array: np.ndarray) -> None:
    grey = to_floats(array, "image").with_channels(1)[0, 0].numpy()
    np.testing.assert_allclose(grey, cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), atol=1e-6)
    whole = (array * 255).round().astype(np.uint8)
    grey = to_floats(whole, "image").with_channels(1)[0, 0].numpy()
    np.testing.assert_allclose(grey * 255, np.asarray(Image.fromarray(whole).convert("L")), atol=1)
    assert to_floats(array[..., 0], "image").with_channels(3).shape == (1, 3, 5, 6)
    assert to_floats(torch.zeros(3, 5, 6), "image").with_channels(1).shape == (1, 3, 5, 6), (
        "a tensor keeps its channels"
    )


BACK = {"1": "1", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
BACK |= {"RGBX": "RGB", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "I": "I", "F": "F"}
BACK |= {"I;16": "I;16", "I;16L": "I;16", "I;16B": "I;16B"}


@pytest.mark.parametrize("mode", BACK)
def test_pil_images_of_every_mode(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 4)).astype(np.uint8)
    pixels[..., 3] |= 1  # nowhere wholly transparent
    if mode in ("I", "F") or mode.startswith("I;16"):
        deep = pixels[..., 0].astype(np.uint16) * 257
        image = Image.fromarray(deep.astype({"I": np.int32, "F": np.float32, "I;16B": ">u2"}.get(mode, np.uint16)))
        expected = deep[..., None] / (1 if mode == "F" else 65535)
    else:
        through = {"PA": "LA", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")  # Pillow converts to these modes from it
        image = Image.fromarray(pixels).convert(through).convert(mode)
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        shown = Image.alpha_composite(black, image.convert("LA" if mode == "La" else "RGBA").convert("RGBA"))
        expected = np.atleast_3d(np.asarray(shown.convert("L" if BACK[mode] in ("1", "L", "LA") else "RGB"))) / 255
    floats = to_floats(image, "image")
    np.testing.assert_allclose(floats.colours[0].permute(1, 2, 0).numpy(), expected, atol=1.01 / 255)
    back = floats.restore(floats.planes)
    assert (back.mode, back.size) == (BACK[mode], image.size)
    same = image if image.mode == back.mode else image.convert(back.mode)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(same))


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.info["transparency"] = 1
    floats = to_floats(image, "image")
    assert floats.colours.max() == 0
    assert floats.restore(floats.planes).mode == "RGBA"


def test_values_out_of_range_are_clipped_and_halves_are_true() -> None:
    planes = torch.tensor([-0.2, 0.2, 0.5, 1.3]).view(1, 1, 1, 4)
    for dtype, expected in ((bool, [0, 0, 1, 1]), (np.uint8, [0, 51, 128, 255]), (np.uint16, [0, 13107, 32768, 65535])):
        like = to_floats(np.zeros((1, 4), dtype), "image")
        assert like.restore(planes).tolist() == [expected]
    for dtype in (np.int32, np.int64, np.uint64, np.int8):
        like = to_floats(np.zeros((1, 4), dtype), "image")
        lowest, highest = (
            like.restore(torch.full((1, 1, 1, 4), value, dtype=torch.float64))[0, 0] for value in (-1e30, 1e30)
        )
        assert lowest == np.iinfo(dtype).min
        assert highest <= np.iinfo(dtype).max
        assert highest > 0.999 * np.iinfo(dtype).max


def broken_file() -> Image.Image:
    file = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(file, "png")
    return Image.open(io.BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "photograph: expected a tensor, a NumPy array or a PIL image, got NoneType"),
        ([[0.5, 1], [2]], "photograph: expected a tensor, a NumPy array or a PIL image, got list"),
        (np.float64(1), "got float64"),
        (np.array([[1, None]]), "photograph: expected an array of integers, real numbers or bools, got object"),
        (np.zeros((9, 9), np.complex64), "got complex64"),
        (np.zeros((9, 9), "M8[s]"), r"got datetime64\[s\]"),
        (np.full((9, 9), "x"), "got <U1"),
        (np.zeros((9, 9), [("r", "u1")]), r"got \[\('r'"),
        (np.ma.zeros((9, 9)), r"an array without a mask, .*call .filled\(0\)"),
        (np.zeros(9), r"expected an array \[H, W\], \[H, W, C\] or \[B, H, W, C\] .*got \[9\]"),
        (np.zeros(()), r"got \[\]"),
        (np.zeros((0, 9)), r"got \[0, 9\]"),
        (np.zeros((9, 9, 0)), r"got \[9, 9, 0\]"),
        (np.zeros((3, 9, 9)), r"got \[3, 9, 9\]; for channels first pass np.moveaxis\(image, 0, -1\), for a stack"),
        (np.zeros((2, 3, 9, 9)), r"got \[2, 3, 9, 9\]; for channels first pass np.moveaxis\(image, 1, -1\)"),
        (np.zeros((2, 2, 9, 9, 3)), r"got \[2, 2, 9, 9, 3\]"),
        (np.full((9, 9, 4), 2.0), "expected real numbers from 0 to 1, uint8 or uint16 with alpha, got float64 from 2"),
        (np.full((9, 9, 4), np.nan), "with alpha, got float64 from nan to nan"),
        (torch.zeros(9), r"photograph: expected \[B, C, H, W\], \[C, H, W\] or \[H, W\], got \[9\]"),
        (torch.zeros(2, 2, 1, 9, 9), r"got \[2, 2, 1, 9, 9\]"),
        (torch.zeros(0, 1, 9, 9), r"got \[0, 1, 9, 9\]"),
        (torch.zeros(9, 9, 3), r"expected \[C, H, W\], got \[9, 9, 3\], .*call \.permute\(2, 0, 1\)"),
        (torch.zeros(2, 9, 9, 3), r"expected \[B, C, H, W\], got \[2, 9, 9, 3\], .*call \.permute\(0, 3, 1, 2\)"),
        (torch.zeros(9, 9, dtype=torch.complex64), "got torch.complex64"),
        (torch.zeros(9, 9).to_sparse(), "expected a dense tensor"),
        (torch.zeros(9, 9, device="meta"), "expected a dense tensor that holds values"),
        (Image.new("RGB", (0, 9)), r"got \[9, 0, 3\]"),
        (broken_file(), "photograph: cannot read the PIL image of mode L"),
    ],
)
def test_other_images_are_refused_in_one_line(image: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        to_floats(image, "photograph")
    assert str(told.value).startswith("photograph: ")
    assert "\n" not in str(told.value)
