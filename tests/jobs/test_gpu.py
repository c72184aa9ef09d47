"""On a GPU, whole jobs and the public functions give the results that they give on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, composed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stnrot import align, fit_pose, rotate
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.pose.point_clouds import torus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotate_equals_rot90(interpolation: str, quarters: int) -> None:
    image = torch.rand(3, 2, 33, 33, device="cuda")
    angle = torch.full((3,), quarters * torch.pi / 2, device="cuda")
    found = rotate(image, angle, interpolation)
    torch.testing.assert_close(found, torch.rot90(image, quarters, (2, 3)), rtol=0, atol=1e-4)


def test_the_fused_kernels_give_torchs_results() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", str(ROOT / "tests/geometry/fused_rotation_cases.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shape", [(256, 1, 28, 28), (32, 3, 224, 224)])
def test_rotate_is_that_of_the_cpu(shape: tuple[int, ...]) -> None:
    image, angle = torch.rand(shape), (torch.rand(shape[0]) * 2 - 1) * torch.pi
    smooth = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    torch.testing.assert_close(rotate(smooth.cuda(), angle.cuda()).cpu(), rotate(smooth, angle), rtol=0, atol=1e-5)


def test_align_finds_quarter_rotations() -> None:
    image = torch.rand(5, 1, 64, 64, device="cuda")
    found = align(image, torch.rot90(image, 1, (2, 3)))
    assert found.aligned.is_cuda
    torch.testing.assert_close(found.angle.cpu(), torch.full((5,), torch.pi / 2), rtol=0, atol=2e-3)


def test_fit_pose_finds_the_pose() -> None:
    points = torus().cuda()
    true = torch.tensor([[0.9, -0.6], [-2.0, 0.4]], device="cuda")
    pose = fit_pose(render(points, euler_to_matrix(true, "XZ"), Camera())[:, None], points, "XZ")
    assert pose.converged.all()
    torch.testing.assert_close(pose.angles, true, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "options", [(), ("model=affine_stn",), ("task=register", "data=image_pairs"), ("experiment=conjugate",)]
)
def test_a_job_trains_tests_and_draws(options: tuple[str, ...], tmp_path: Path) -> None:
    from train import train

    small = ("trainer=gpu", "trainer.max_epochs=2", "callbacks.progress.refresh_rate=0", f"output_dir={tmp_path}")
    train(composed("train", *options, *small))
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
    values = json.loads((tmp_path / "metrics.json").read_text())
    assert values["test/loss"] < 3
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["images"]
    assert values.get("test/accuracy", 1) > 0.3  # register and conjugate have no accuracy
