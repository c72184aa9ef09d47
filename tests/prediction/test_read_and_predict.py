"""Files are read on all cores, and answered in their order."""

import itertools

import numpy as np
import pytest
from PIL import Image

import stnrot
from stnrot.errors import InputError
from stnrot.prediction.read_and_predict import MAX_BYTES, MAX_FILES, read_and_predict


@pytest.fixture(scope="module")
def predictor():
    return stnrot.load("digits")


def grey(file, value):
    Image.new("L", (28, 28), value).save(file)
    return file


def test_answers_come_in_the_order_of_the_files_and_a_broken_one_has_its_reason(predictor, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100), np.uint8)
    files = [grey(tmp_path / f"{value}.png", value) for value in range(200)]
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > MAX_BYTES
    for place in (3, 70, 140):
        files.insert(place, tmp_path / "large.png")
    files.insert(66, tmp_path / "missing.png")
    found = list(read_and_predict(predictor, files, lambda images: images.mean((1, 2, 3)).tolist()))
    assert isinstance(found[66], InputError)
    assert "missing.png" in str(found[66])
    expected = [int(file.stem) if file.stem.isdigit() else pytest.approx(noise.mean(), abs=10) for file in files]
    assert found[:66] + found[67:] == expected[:66] + expected[67:]


def test_only_a_few_portions_are_read_ahead(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("stnrot.prediction.read_and_predict.allowed_cores", lambda: 2)
    file, taken = grey(tmp_path / "1.png", 1), itertools.count()
    endless = (file for _ in taken)
    found = read_and_predict(predictor, endless, lambda images: [0] * len(images))
    assert next(found) == 0
    found.close()
    assert next(taken) <= 7 * MAX_FILES


def test_an_error_of_the_model_ends_the_reading(predictor, tmp_path):
    def fails(images):
        raise InputError("no angle")

    with pytest.raises(InputError, match="no angle"):
        list(read_and_predict(predictor, [grey(tmp_path / "1.png", 1)] * 1000, fails))
