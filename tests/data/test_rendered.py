"""Rendered poses: functions of their counters, equal to the plain formula, degraded as configured."""

import numpy as np
import pytest
import torch
from conftest import composed
from hydra.utils import instantiate

from stnrot.data.rendered import RenderedPoses
from stnrot.data.rng import Split
from stnrot.geometry.splat import Camera
from stnrot.pose.point_clouds import torus
from stnrot.runs.command_line import one_line

SMALL = ("data.camera.height=24", "data.camera.width=32", "data.camera.sigma=1.5", "data.samples=100")


def poses(*overrides: str) -> RenderedPoses:
    config = composed("train", "data=rendered", *SMALL, *overrides)
    return instantiate(config.data, _convert_="all")


def test_the_camera_is_the_one_of_fit_pose() -> None:
    assert instantiate(composed("train", "data=rendered").data.camera) == Camera()


def test_an_image_is_a_sum_of_gaussians_about_projected_points() -> None:
    views = poses().view(torch.arange(40), Split.TEST)
    for image, rotation in zip(views.image[[0, 39], 0], views.rotation[[0, 39]], strict=True):
        x, y, z = (torus() @ rotation.T).numpy().T
        u, v = x / (z + 2) * 12 + 15.5, y / (z + 2) * 12 + 11.5  # 90 degrees: the focal length is half of 24
        row, column = np.mgrid[:24, :32]
        squares = (column[..., None] - u) ** 2 + (row[..., None] - v) ** 2
        np.testing.assert_allclose(image, np.exp(-squares / (2 * 1.5**2)).sum(-1).clip(0, 1), atol=2e-5)


def test_a_sample_depends_on_its_counter_alone() -> None:
    data = poses("data.degrade.noise=0.1", "data.degrade.occlude=0.3", "data.degrade.gain=0.2")
    whole, part = data.view(torch.arange(100), Split.TRAIN), data.view(torch.tensor([70, 3]), Split.TRAIN)
    torch.testing.assert_close(part.image, whole.image[[70, 3]], rtol=0, atol=1e-5)
    assert torch.equal(part.rotation, whole.rotation[[70, 3]])
    assert torch.equal(data.view(torch.tensor([103]), Split.TRAIN).index, torch.tensor([3]))
    assert not torch.equal(data.view(torch.tensor([103]), Split.TRAIN).rotation, whole.rotation[3:4])
    for split, same in ((Split.TRAIN, False), (Split.VAL, True), (Split.TEST, True)):
        other, here = (each.view(torch.arange(3), split).rotation for each in (poses("data.seed=5"), data))
        assert torch.equal(other, here) == same
    tests = [data.view(torch.arange(3), split).rotation for split in Split]
    assert not torch.equal(tests[1], tests[2])


def test_a_moved_image_is_the_image_elsewhere() -> None:
    data = poses()
    rotation = data.view(torch.arange(3), Split.VAL).rotation
    shift = torch.tensor([[2 / 32, -3 / 24]]).expand(3, 2)  # two pixels to the right, three up
    still, moved = data.render(rotation, 0 * shift), data.render(rotation, shift)
    torch.testing.assert_close(moved[..., :-3, 2:], still[..., 3:, :-2], rtol=0, atol=1e-5)


def test_images_are_degraded_as_configured() -> None:
    counters = torch.arange(100)
    clean = poses().view(counters, Split.TRAIN)
    noisy = poses("data.degrade.noise=0.2", "data.degrade.occlude=0.25").view(counters, Split.TRAIN)
    assert torch.equal(clean.rotation, noisy.rotation)
    corner = noisy.image[:, 0, :3, :3].flatten(1)
    assert (clean.image[:, 0, :3, :3] < 1e-6).all()
    assert 0.01 < corner.std(1).median() < 0.1
    assert noisy.image.amin() == 0 <= noisy.image.amax() <= 1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.samples=5", "data.samples=5: expected a whole number of at least 10"),
        ("data.batch_size=0", "data.batch_size=0: expected a whole number of at least 1"),
        ("data.axes=XX", "data.axes='XX': expected one to three of X, Y and Z"),
        ("data.own_axis=[0,0,0]", "data.own_axis=[0, 0, 0]: expected three numbers, not all 0, or null"),
        ("data.own_axis=[0,1]", "data.own_axis=[0, 1]: expected three numbers, not all 0, or null"),
        (
            "data.own_axis=[1,0,0]",
            "data.own_axis=[1, 0, 0]: expected an axis about which points=torus is a solid",
        ),
        ("data.points=knot.ply", "points=knot.ply: there is no such file"),
        ("data.camera.near=3", "all points are behind the camera: expected a distance of more than"),
        ("data.camera.fov_deg=180", "camera.fov_deg=180: expected a number from 1 to 170"),
        ("data.degrade.noise=-1", "data.degrade.noise=-1: expected a number of at least 0"),
    ],
)
def test_bad_values_are_one_line(override: str, line: str) -> None:
    with pytest.raises(Exception, match=r"expected|camera|file") as raised:
        poses(override)
    assert line in str(one_line(raised.value))
