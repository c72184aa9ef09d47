"""Images of every kind give what the model itself gives; the sizes are those of Pillow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NO_FIGURES, composed
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from stnrot import load
from stnrot.errors import InputError
from stnrot.prediction.predictor import Predictor, _resized
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from train import train

PIXELS = load_sample_images().images[0][:60, :90]


@pytest.fixture(scope="module")
def predictor(digits_run: Path) -> Predictor:
    return load(digits_run)


def test_images_of_every_kind_give_what_the_model_gives(predictor: Predictor, digits_run: Path, tmp_path: Path) -> None:
    grey = Image.fromarray(PIXELS).convert("L").resize((28, 28))
    array = np.asarray(grey)
    grey.save(tmp_path / "grey.png")
    path = digits_run / "checkpoints" / "best.ckpt"
    model = rebuild(read_checkpoint(path), path).model
    with torch.inference_mode():
        expected = model(torch.from_numpy(array.copy())[None, None].float() / 255, None)
    for image in (grey, array, torch.from_numpy(array.copy()), tmp_path / "grey.png", [str(tmp_path / "grey.png")]):
        found = predictor(image)
        torch.testing.assert_close(found.probability, expected.log_probability.exp(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.angle, expected.orientation.angle, atol=1e-4, rtol=0)
    assert found.label == [str(int(expected.log_probability.argmax()))]
    assert found.classes == tuple("0123456789")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn when it is shown
    turned = Image.fromarray(np.rot90(array).copy())
    turned.save(tmp_path / "turned.png", exif=exif)
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        torch.testing.assert_close(predictor(image).angle, expected.orientation.angle, atol=1e-4, rtol=0)
    many = predictor([grey, PIXELS, torch.rand(5, 1, 40, 30)])
    assert many.angle.shape == many.confidence.shape == (7, 3)
    torch.testing.assert_close(many.probability[:1], found.probability, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("fit", "pillow"), [("crop", ImageOps.fit), ("pad", ImageOps.pad)])
def test_sizes_are_those_of_pillow(fit: str, pillow) -> None:
    image = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[None].float() / 255
    for height, width in ((28, 28), (60, 90), (40, 20), (80, 200)):
        expected = np.asarray(pillow(Image.fromarray(PIXELS), (width, height), Image.Resampling.BICUBIC)) / 255.0
        found = _resized(image, height, width, fit)[0].permute(1, 2, 0).numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 0.02  # Pillow cuts off parts of pixels, too


def test_a_model_without_an_angle_gives_the_class_alone(job) -> None:
    _, run = job("model=cnn", NO_FIGURES)
    found = load(run)(torch.rand(3, 1, 28, 28))
    assert found.angle is None
    assert found.confidence is None
    assert len(found.label) == 3


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    for image, message in (
        (torch.rand(3, 28, 28), r"images\[0\] has 3 channels: expected 1"),
        ([], "images: expected at least one image"),
        (255 * torch.rand(28, 28), r"images\[0\] has values from .*: expected 0 to 1"),
        ("nowhere.png", "there is no image nowhere.png"),
        (object(), r"images\[0\]: expected a tensor, a NumPy array or a PIL image, got object"),
    ):
        with pytest.raises(InputError, match=message):
            predictor(image)
    (tmp_path / "other.ckpt").write_bytes(b"no checkpoint")
    for source, message in (
        (tmp_path, "expected the folder of a run of train.py"),
        (tmp_path / "other.ckpt", "is not a readable checkpoint"),
        ("phtos", "model=phtos: expected the folder of a run"),
        ("x" * 300, "expected the folder of a run"),
    ):
        with pytest.raises(InputError, match=message):
            load(source)
    config = read_checkpoint(predictor.path)["config"]
    task = rebuild(read_checkpoint(predictor.path), predictor.path)
    for part, changes in (
        ("data_spec", {"class_names": None}),
        ("data_spec", {"class_names": ["a"]}),
        ("data_spec", {"class_names": "0123456789"}),
        ("data_spec", {"height": 10**6}),
        ("data", {"source": 3}),
    ):
        with pytest.raises(InputError, match=r"has a configuration that train\.py|names of 10 classes"):
            Predictor(task, config | {part: config[part] | changes}, predictor.path)


def test_models_of_pairs_and_of_other_tasks_are_refused(job, tmp_path: Path) -> None:
    _, run = job("task=register", "data=image_pairs", NO_FIGURES)
    with pytest.raises(InputError, match=r"is a model of pairs: expected one of single images"):
        load(run)
    pose = tmp_path / "pose"
    pose.mkdir()
    small = ("debug=one_batch", "data.batch_size=4", "trainer.accelerator=cpu", "callbacks.pose_figures=null")
    train(composed("train", "experiment=torus_pose", *small, f"output_dir={pose}"))
    with pytest.raises(InputError, match=r"is a model of EstimatePose: expected one of single images"):
        load(pose)
