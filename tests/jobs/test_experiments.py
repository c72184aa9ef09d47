"""Every configuration composes, and the command in the header of every experiment runs."""

import math
import os
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, composed, metrics_of
from PIL import Image

from train import train

HEADERS = [
    (file.stem, line.removeprefix("# python train.py "))
    for file in sorted((ROOT / "configs" / "experiment").iterdir())
    for line in file.read_text().splitlines()
    if line.startswith("# python train.py ")
]
FIGURE = {"conjugate": "rotation", "torus_pose": "poses"}  # experiments without a data set of images


def test_options_compose() -> None:
    for data in ("rotated_digits", "rotated_mnist", "mnist_rot", "cifar10", "image_pairs"):
        assert composed("train", f"data={data}").model.classifier.width == 32
    for model in ("rot_stn", "affine_stn", "cnn"):
        assert composed("train", "data=rotated_mnist", f"model={model}").model.classifier.width == 32
    assert composed("train", "task=register", "data=image_pairs").model.classifier is None
    assert composed("train", "data=rotated_mnist", "data.max_angle_deg=90", "data.n_train=100").data.n_train == 100
    for experiment in sorted((ROOT / "configs" / "experiment").glob("*.yaml")):
        if experiment.stem.startswith(("pairs_", "upright_photos")):
            assert composed("train", f"experiment={experiment.stem}").model.classifier is None
            continue
        if experiment.stem == "conjugate":
            assert composed("train", "experiment=conjugate").model.rotation.method == "householder"
            continue
        if experiment.stem == "torus_pose":
            assert composed("train", "experiment=torus_pose").model.side == 64
            continue
        assert composed("train", f"experiment={experiment.stem}").model.classifier.width == 32
    for options in (("model/encoder=cnn",), ("model=cnn", "data/augment=deform"), ("model=affine_stn",)):
        assert composed("train", "experiment=mnist_rot", *options).model.classifier.width == 32
    for trainer in ("auto", "cpu", "gpu", "ddp"):
        assert composed("train", f"trainer={trainer}").trainer.precision == "auto"


def test_every_experiment_has_its_command() -> None:
    assert {name for name, _ in HEADERS} == {file.stem for file in (ROOT / "configs" / "experiment").iterdir()}
    for name, options in HEADERS:
        assert f"experiment={name}" in options.split()
        composed("train", *options.split())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), HEADERS)
def test_the_commands_in_the_headers_of_the_experiments_run(
    tmp_path: Path, mine: Path, name: str, options: str
) -> None:
    options = options.replace("data.root=data", f"data.root={os.environ['STNROT_MNIST']}")
    options = options.replace("data.root=FOLDER", f"data.root={mine} data.n_train=null")
    small = [each for each in SMALL if name not in FIGURE or not each.startswith("data.")]
    folder = tmp_path / "run"
    folder.mkdir()
    train(composed("train", *small, f"output_dir={folder}", *options.split(), "debug=one_batch"))
    metrics = metrics_of(folder)
    assert all(math.isfinite(value) for value in metrics.values())
    if name.startswith("pairs_"):
        assert 0 <= metrics["test/loss"] < 10
    elif name == "conjugate":
        assert 0 <= metrics["test/axes_max_deg"] <= 90
    elif name == "torus_pose":
        assert 0 <= metrics["test/angle_median_deg"] <= 90
    else:
        assert 0 <= metrics["test/accuracy"] <= 1
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    (figure,) = (folder / "pictures" / "test").glob(f"{FIGURE.get(name, 'alignment')}.png")
    assert Image.open(figure).size[0] > 100
