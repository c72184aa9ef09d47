"""`stnrot pose` on files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from conftest import Called, refused, stnrot
from PIL import Image
from scipy.spatial.transform import Rotation

from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.pose.point_clouds import torus

TRUE = (40.0, -25.0)


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """torus.png, 128 x 128 in 8 bits, and wide.png of a cloud of points in 16, seen from another camera."""
    image = render(torus(), euler_to_matrix(torch.tensor(TRUE).deg2rad(), "XZ"), Camera())
    Image.fromarray((image * 255).round().byte().numpy()).save(tmp_path / "torus.png")
    cloud = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.6, 0.4, 0.2])
    trimesh.PointCloud(cloud.numpy()).export(tmp_path / "cloud.ply")
    turn = Rotation.from_euler("zyx", [10, 20, 30], degrees=True).as_matrix()
    camera = Camera(distance=3, fov_deg=60, height=80, width=120, sigma=2)
    wide = render(cloud, torch.from_numpy(turn).float(), camera)
    Image.fromarray((wide * 65535).round().numpy().astype(np.uint16)).save(tmp_path / "wide.png")
    return tmp_path


def test_a_torus(shot: Path) -> None:
    done = stnrot("pose", "torus.png", "--points", "torus", "--axes", "XZ", "--out", "overlay.png", cwd=shot)
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert [float(line[1]) for line in said[:2]] == pytest.approx(TRUE, abs=0.02)
    assert said[3] == ["converged", "yes"]
    assert sum(line[0] == "or" for line in said) == 3
    overlay, image = (np.asarray(Image.open(shot / name), float) for name in ("overlay.png", "torus.png"))
    assert (overlay[..., 0] == image).all()
    assert np.abs(overlay[..., 1] - image).max() <= 1
    assert (overlay[..., 1] == overlay[..., 2]).all()


def test_points_of_a_file_about_three_axes_as_json(called: Called, shot: Path) -> None:
    camera = ("--distance", 3, "--fov-deg", 60, "--sigma", 2)
    code, printed = called("pose", "wide.png", "--points", "cloud.ply", "--axes", "zyx", *camera, "--json", cwd=shot)
    assert code == 0
    answer = json.loads(printed)
    assert answer["angles_deg"] == pytest.approx([10, 20, 30], abs=0.02)
    assert answer["alike_deg"] == [answer["angles_deg"]]
    assert answer["converged"]
    turn = Rotation.from_euler("zyx", answer["angles_deg"], degrees=True).as_matrix()
    np.testing.assert_allclose(answer["matrix"], turn, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--points", "knot.ply"], "error: --points=knot.ply: there is no such file"),
        (["--points", "torus.png"], "error: --points=torus.png: expected torus, or a file that ends in .ply"),
        (["--points", "torus", "--axes", "QQ"], "error: --axes='QQ': expected one to three of X, Y and Z"),
        (["--points", "torus", "--distance", "-9"], "error: --distance=-9.0: expected a number of at least 0"),
        (["--points", "torus", "--fov-deg", "180"], "error: --fov-deg=180.0: expected a number from 1 to 170"),
        (["--points", "torus", "--out", "torus.png"], "--out torus.png is an input image"),
        (["--points", "torus", "--out", "none/a.png"], "--out none/a.png: there is no folder none"),
        (["--points", "torus", "--out", "a.xyz"], "--out a.xyz: expected the name of an image file, such as a.png"),
        (["--points", "torus", "--ckpt", "none.ckpt"], "no checkpoint at none.ckpt"),
    ],
)
def test_an_input_error_is_one_line(called: Called, shot: Path, arguments: list[str], words: str) -> None:
    assert words in refused(called, shot, "pose", "torus.png", *arguments)
