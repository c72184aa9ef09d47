"""`experiment=torus_pose` as a whole job: it learns where the axis points, and shows it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed, epochs
from hydra.utils import instantiate
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluate import evaluate
from stnrot.data.rng import Split
from stnrot.errors import InputError
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera
from stnrot.pose.fit import fit_pose
from stnrot.pose.point_clouds import torus
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line
from train import train

QUIET = ("callbacks.progress=null", "callbacks.pose_figures.samples=4")
SMALL = (
    "experiment=torus_pose",
    "data/degrade=clean",
    "data.degrade={gain: 0.0, noise: 0.0, occlude: 0.0}",
    "data.camera={height: 16, width: 16, sigma: 0.5}",
    "data.samples=500",
    "data.batch_size=50",
    "model.side=16",
    "model.width=8",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
)


def job(folder: Path, *overrides: str) -> float:
    """Train, and return the median error of the test in degrees."""
    folder.mkdir(exist_ok=True)
    train(composed("train", *SMALL, *QUIET, "trainer.max_epochs=2", f"output_dir={folder}", *overrides))
    return json.loads((folder / "metrics.json").read_text())["test/angle_median_deg"]


@pytest.mark.ci
def test_learns_where_the_axis_points(tmp_path: Path) -> None:
    median = job(tmp_path, "trainer.max_epochs=2", "data.samples=3000", "task.optimizer.lr=0.01")
    assert median < 6  # of any axis it would be 60

    path = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    net = rebuild(checkpoint, path).model
    data = instantiate(checkpoint["config"]["data"], _convert_="all")
    views = data.view(torch.arange(300), Split.TEST)
    found, true = (rotation[..., 1] for rotation in (euler_to_matrix(net.angles(views.image), "XZ"), views.rotation))
    error = (found * true).sum(1).abs().clamp(max=1).acos().rad2deg()
    assert error.median() == pytest.approx(median, abs=0.05)

    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"val/poses", "val/sphere", "test/poses", "test/sphere"} <= set(events.Tags()["images"])
    assert {"val/angle_median_deg", "val/angle_within_5deg", "train/loss"} <= set(events.Tags()["scalars"])
    for folder in ("epoch_000", "epoch_001", "test"):
        for name in ("poses", "sphere"):
            assert min(Image.open(tmp_path / "pictures" / folder / f"{name}.png").size) > 100


def test_a_solid_without_symmetry(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32) * [0.5, 0.1, 0.3]
    np.save(tmp_path / "dots.npy", points.astype(np.float32))
    options = (f"data.points={tmp_path / 'dots.npy'}", "data.own_axis=null", "data.axes=XYZ")
    assert 0 < job(tmp_path, *options) < 180
    assert Image.open(tmp_path / "pictures" / "test" / "sphere.png").size[0] > 700  # two halves


def test_a_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    options = ("task.scheduler=null", "data.degrade.noise=0.1", "data.degrade.occlude=0.2")
    whole = job(tmp_path / "whole", *options)
    job(tmp_path / "half", *options, "trainer.max_epochs=1")
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert job(tmp_path / "rest", *options, f"ckpt_path={last}") == pytest.approx(whole, rel=1e-4)
    assert epochs(tmp_path / "rest") == {1}


def test_is_tested_again_on_its_own_solid_and_camera_alone(tmp_path: Path) -> None:
    job(tmp_path / "run", "trainer.max_epochs=1")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"

    def again(name: str, *overrides: str) -> dict[str, float]:
        options = ("callbacks.progress=null", f"ckpt={checkpoint}", "trainer=cpu", f"output_dir={tmp_path / name}")
        return evaluate(composed("evaluate", *options, *overrides))

    first = json.loads((tmp_path / "run" / "metrics.json").read_text())
    first.pop("val/loss")
    assert again("again") == pytest.approx(first)
    assert {path.stem for path in (tmp_path / "again" / "pictures" / "test").iterdir()} == {"poses", "sphere"}
    assert again("noisy", "+data.degrade.noise=0.5") != pytest.approx(first)
    np.save(tmp_path / "torus.npy", 0.9 * torus().numpy())
    for override, line in (
        ("+data.axes=XY", "trained on poses with axes=XZ, this data has XY"),
        ("+data.camera.distance=3", "trained on poses with camera={'distance': 2.0"),
        (f"+data.points={tmp_path / 'torus.npy'}", r"points=torus, this data has .*torus.npy \(other points\)"),
        ("+data.own_axis=null", r"own_axis=\[0.0, 1.0, 0.0\], this data has None"),
        ("data=rotated_digits", "trained on data with axes, .* choose data of the same kind"),
    ):
        with pytest.raises(InputError, match=line):
            again("other", override)


def test_a_descent_starts_from_a_checkpoint_of_the_same_solid_and_camera(tmp_path: Path) -> None:
    job(tmp_path, "trainer.max_epochs=1")
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    camera = Camera(**read_checkpoint(checkpoint)["config"]["data_spec"]["camera"])
    image = torch.zeros(camera.height, camera.width)
    network = rebuild(read_checkpoint(checkpoint), checkpoint).model
    by_path, by_network = (fit_pose(image, torus(), camera=camera, start=each) for each in (checkpoint, network))
    assert torch.equal(by_path.angles, by_network.angles)
    for points, axes, other, line in (
        (0.9 * torus(), "XZ", camera, "was trained on other points: expected those of data.points=torus"),
        (torus(), "XZ", replace(camera, fov_deg=80), r"was trained with the camera .* expected the same one here"),
        (torus(), "XY", camera, "axes=XY: the network of the start estimates angles about XZ"),
    ):
        with pytest.raises(InputError, match=line):
            fit_pose(image, points, axes, camera=other, start=checkpoint)
    with pytest.raises(
        InputError, match=r"start: expected angles, a PoseNet or the checkpoint of a run of task=pose, got Linear"
    ):
        fit_pose(image, torus(), camera=camera, start=torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("model.side=40",), "model.side=40: expected a multiple of 16"),
        (("task.optimizer.lr=-1",), "task.optimizer cannot be built: Invalid learning rate"),
        (
            ("callbacks.pose_figures.samples=0",),
            "callbacks.pose_figures.samples=0: expected a whole number of at least 1",
        ),
    ],
)
def test_bad_values_are_one_line(tmp_path: Path, overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(Exception, match=r"expected|Invalid|not found") as raised:
        train(composed("train", *SMALL, *QUIET, f"output_dir={tmp_path}", *overrides))
    assert line in str(one_line(raised.value))
