"""`stnrot.fit`: arrays of every kind, the split, the model and its folder."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from PIL import Image

import stnrot
from stnrot import InputError, Predictor, fit, load
from stnrot.data.sources.arrays import split_arrays
from stnrot.data.sources.digits import digits
from stnrot.jobs import fit as job
from stnrot.runs.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    train = digits(None, 0).train.subset(torch.arange(200))
    views, job.VIEWS = job.VIEWS, 100
    state = torch.random.get_rng_state()
    try:
        return fit(train.image[:, 0].numpy(), train.label.tolist(), classes=[f"digit {k}" for k in range(10)], epochs=1)
    finally:
        job.VIEWS = views
        assert torch.random.get_rng_state().equal(state)


def test_it_predicts_and_has_metrics(fitted: Predictor) -> None:
    found = fitted([torch.rand(40, 30), np.zeros((28, 28), np.uint8)])
    assert found.angle.shape == found.confidence.shape == (2, 3)
    assert set(found.label) <= {f"digit {k}" for k in range(10)}
    assert fitted.metrics.keys() >= {"val/nll", "val/accuracy", "val/angle_within_5deg"}


def test_its_folder_loads_as_the_same_model(fitted: Predictor, tmp_path) -> None:
    fitted.save(tmp_path / "model", about="# Mine", licence="mit")
    image = torch.rand(4, 1, 28, 28)
    again = load(tmp_path / "model")
    assert again.predict(image).probability.equal(fitted.predict(image).probability)
    assert again.classes == fitted.classes
    card = (tmp_path / "model" / "README.md").read_text()
    assert "license: mit" in card
    assert f"| val/accuracy | {fitted.metrics['val/accuracy']:.4g} |" in card
    with pytest.raises(InputError, match="is not empty"):
        fitted.save(tmp_path / "model")
    again.save(tmp_path / "copy")
    assert "Measured" not in (tmp_path / "copy" / "README.md").read_text()
    source = read_checkpoint(tmp_path / "copy")["config"]["data"]["source"]
    assert source["_target_"] == "stnrot.data.sources.arrays.arrays"


def test_it_works_inside_a_program_that_uses_hydra() -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        assert job._composed(["seed=5"]).seed == 5
        assert compose("train").seed == 1


def test_arrays_of_every_kind_are_the_same_images() -> None:
    bytes_ = torch.randint(0, 256, (40, 3, 12, 10), dtype=torch.uint8)
    labels = torch.arange(40) % 2
    expected = split_arrays(bytes_, labels, None, 0)
    for images in (
        bytes_.numpy(),
        np.moveaxis(bytes_.numpy(), 1, -1),
        bytes_ / 255,
        (bytes_ / 255).double().numpy(),
    ):
        found = split_arrays(images, labels.tolist(), ("a", "b"), 0)
        assert found.train.image.equal(expected.train.image)
        assert found.val.label.equal(expected.val.label)
    assert (expected.classes, found.classes) == (("0", "1"), ("a", "b"))
    grey = split_arrays(bytes_[:, 0].numpy(), labels.numpy(), None, 0)
    assert grey.train.image.equal(expected.train.image[:, :1])


@pytest.mark.parametrize("kind", ["uint16", "uint64", ">i4"])
def test_labels_of_every_kind_are_the_same_classes(kind: str) -> None:
    images, labels = torch.rand(20, 12, 12), np.arange(20) % 2
    expected = split_arrays(images, labels, None, 0).train.label
    assert split_arrays(images, labels.astype(kind), None, 0).train.label.equal(expected)
    backwards = split_arrays(images, labels[::-1], None, 0)  # negative strides
    assert torch.bincount(backwards.train.label).tolist() == torch.bincount(expected).tolist()


def test_the_split_keeps_the_share_of_each_class() -> None:
    labels = torch.tensor([0] * 100 + [1] * 20)
    images = torch.arange(120, dtype=torch.uint8)[:, None, None].expand(120, 8, 8)
    found = split_arrays(images, labels, None, 3)
    assert torch.bincount(found.val.label).tolist() == [15, 3]
    together = torch.cat((found.train.image, found.val.image))[:, 0, 0, 0]
    assert together.sort().values.tolist() == list(range(120))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    images, labels = torch.rand(20, 12, 12), torch.arange(20) % 2
    for changed, said in (
        ({"images": images[0]}, r"images: expected \[N, H, W\] or \[N, C, H, W\]"),
        ({"images": 255 * images}, "images: expected uint8, or numbers from 0 to 1, got"),
        ({"images": "folder"}, "images: expected"),
        ({"labels": labels[:9]}, "labels: expected one for each of the 20 images, got 9"),
        ({"labels": labels / 2}, "labels: expected a class for each image, whole numbers"),
        ({"labels": labels + 1}, "labels: expected at least 2 classes, from 0 without a gap, .* got 2 of 3, the sm"),
        ({"labels": labels * 10**12}, "got 2 of 1000000000001, the smallest with 10"),
        ({"labels": 0 * labels}, "got 1 of 1, the smallest with 20; .*np.unique"),
        ({"labels": np.where(labels > 0, "cat", "dog")}, "labels: .* np.unique"),
        ({"labels": [[1], [1, 2]]}, "labels: expected a class for each image"),
        ({"images": torch.rand(20, 4, 12, 12)}, "images: expected 1 or 3 channels, got 4"),
        ({"labels": labels - 1}, "labels: expected a class for each image, whole numbers from 0"),
        ({"labels": ["a"] * 20}, "labels: expected a class for each image, whole numbers from 0"),
        ({"classes": ["a", "b", "c"]}, "got 2 of 3, the smallest"),
        ({"classes": 5}, "classes: expected a list of different names, got 5"),
        ({"classes": ["a", "a"]}, "classes: expected a list of different names"),
        ({"classes": ["a", ""]}, "classes: expected a list of different names"),
        ({"classes": ["a"]}, "classes: expected a name for each class from 0 to 1, got 1"),
        ({"classes": "ab"}, "classes: expected a list of different names"),
        ({"epochs": 0}, "epochs=0: expected a whole number of at least 1"),
        ({"seed": -1}, "seed=-1: expected a whole number"),
    ):
        with pytest.raises(InputError, match=said):
            fit(**{"images": images, "labels": labels} | changed)


@pytest.mark.slow
def test_the_page_trains_a_loop_to_99_percent_and_fit_to_98(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/how-to/from_python.md as they stand; the oracle rotates held-out digits by Pillow."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/from_python.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["accuracy"] >= 0.99
    test = digits(None, 0).test
    degrees = np.random.default_rng(2).uniform(-180, 180, len(test))
    upright = [Image.fromarray(each.numpy()) for each in test.image[:, 0]]
    turned = [each.rotate(float(a), Image.Resampling.BICUBIC) for each, a in zip(upright, degrees, strict=True)]
    expected = [str(k) for k in test.label.tolist()]
    for predictor in (names["predictor"], stnrot.load("digits-model")):
        right = [a == b for a, b in zip(predictor(turned).label, expected, strict=True)]
        assert np.mean(right) >= 0.98  # of 850 training images; the loop has 1,000
