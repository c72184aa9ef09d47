"""What the page shows of one picture, without a server: kinds of pictures, and models of grey and of colour images."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from stnrot.demo.picture import one_picture
from stnrot.errors import InputError
from stnrot.prediction.predictor import Predictor, load


@pytest.fixture(scope="module")
def digits() -> Predictor:
    return load("digits")


def drawn(number: int) -> Image.Image:
    """Return a digit of scikit-learn as the model was trained on it: 20 x 20 pixels on a black square of 28."""
    small = Image.fromarray((load_digits().images[number] * 255 / 16).astype(np.uint8)).resize((20, 20))
    square = Image.new("L", (28, 28))
    square.paste(small, (4, 4))
    return square


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "I"])
def test_a_digit_of_every_kind_is_read(digits: Predictor, mode: str) -> None:
    given = drawn(3)
    wide = np.asarray(given).astype(np.uint16) * 257
    kinds = {"I;16": Image.fromarray(wide), "I": Image.fromarray(wide.astype(np.int32))}
    turned, upright, dial, _, classes = one_picture(digits, kinds.get(mode) or given.convert(mode), 0.0)
    assert max(classes, key=classes.get) == "3"
    assert np.abs(turned[8:20, 8:20] - np.asarray(given.convert("RGB"))[8:20, 8:20].astype(float)).max() <= 3
    assert upright.shape == (28, 28, 3)
    assert "<svg" in dial


def test_transparent_parts_are_black(digits: Predictor) -> None:
    given = Image.new("RGBA", (64, 64), (200, 200, 200, 0))
    given.putpixel((32, 32), (255, 255, 255, 255))
    turned, *_ = one_picture(digits, given, 0.0)
    expected = Image.alpha_composite(Image.new("RGBA", given.size, (0, 0, 0, 255)), given).convert("RGB")
    assert np.abs(turned[24:40, 24:40] - np.asarray(expected)[24:40, 24:40].astype(float)).max() <= 1


@pytest.mark.parametrize("size", [(1, 2000), (2000, 7), (1, 1)])
def test_a_picture_that_is_too_small_is_refused(digits: Predictor, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]} pixels: expected sides of at least 8"):
        one_picture(digits, Image.new("RGB", size), 0.0)


def test_a_photograph_is_read_by_the_model_of_digits(digits: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    turned, *_, classes = one_picture(digits, Image.fromarray(noise), 1.0)
    assert turned.shape == (512, 512, 3)
    assert sum(classes.values()) == pytest.approx(1, abs=1e-4)
