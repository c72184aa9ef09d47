"""The image of a point set: compared with the plain sum over points and pixels, and with textbook matrices."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from stnrot.errors import InputError
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, project, render, splat
from stnrot.pose.point_clouds import torus

TURN = euler_to_matrix(torch.tensor([0.3, 0.7, 0.2], dtype=torch.float64))
SMALL = Camera(height=12, width=9, sigma=1.3)


def on_screen(points: torch.Tensor, rotation: torch.Tensor, camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Project by model, view and projection as 4 x 4 matrices of homogeneous points, and divide by w."""
    model, view = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    model[:3, :3] = rotation
    view[2, 3] = camera.distance
    side = min(camera.height, camera.width)
    f = 1 / math.tan(math.radians(camera.fov_deg) / 2)
    far, near = 100.0, camera.near
    projection = torch.tensor(
        [
            [f * side / camera.width, 0, 0, 0],
            [0, f * side / camera.height, 0, 0],
            [0, 0, far / (far - near), -far * near / (far - near)],
            [0, 0, 1, 0],
        ],
        dtype=torch.float64,
    )
    homogeneous = torch.cat((points.double(), torch.ones(len(points), 1, dtype=torch.float64)), 1)
    clip = homogeneous @ (projection @ view @ model).T
    x, y, z = (clip[:, :3] / clip[:, 3:]).T
    column = (x + 1) * camera.width / 2 - 1 / 2
    row = (y + 1) * camera.height / 2 - 1 / 2
    return torch.stack((column, row), 1), (clip[:, 3] > 0) & (z > 0)


def plain(points: torch.Tensor, rotation: torch.Tensor, camera: Camera) -> torch.Tensor:
    """Add up N x H x W Gaussians."""
    place, seen = on_screen(points, rotation, camera)
    column, row = (each[seen, None, None] for each in place.T)
    y = torch.arange(camera.height, dtype=torch.float64)[:, None]
    x = torch.arange(camera.width, dtype=torch.float64)
    total = torch.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * camera.sigma**2)).sum(0)
    return total.clamp(max=1) if camera.saturation == "clamp" else 1 - torch.exp(-total)


CAMERAS = [
    Camera(),
    Camera(saturation="soft"),
    Camera(height=37, width=50, sigma=0.4),
    Camera(height=51, width=24, fov_deg=40, distance=3),
    Camera(height=1, width=1),
    Camera(height=40, width=40, distance=0.3, saturation="soft"),
    Camera(height=40, width=40, distance=0, near=0.2),
    Camera(height=16, width=16, sigma=500, saturation="soft"),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=str)
def test_the_image_is_the_plain_sum(camera: Camera) -> None:
    points = torus(300)
    expected = plain(points, TURN, camera)
    drawn = render(points, TURN.float(), camera)
    assert drawn.shape == (camera.height, camera.width)
    torch.testing.assert_close(drawn.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(render(points.double(), TURN, camera), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("camera", CAMERAS, ids=str)
def test_positions_are_those_of_homogeneous_matrices(camera: Camera) -> None:
    points = torus(300).double()
    place, seen = project(points, TURN, camera)
    expected, before = on_screen(points, TURN, camera)
    assert torch.equal(seen, before)
    torch.testing.assert_close(place[seen], expected[seen], rtol=1e-10, atol=1e-10)


def test_the_default_camera() -> None:
    """At distance 2 along z, 90 degrees, 128 pixels: screen = (x / z + 1) 128 / 2 - 1 / 2, y downward."""
    points = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0, 0.25, 0], [0.5, 0.25, -1]])
    place, seen = project(points, torch.eye(3), Camera())
    assert seen.all()
    expected = [[63.5, 63.5], [0.25 * 64 + 63.5, 63.5], [63.5, 0.125 * 64 + 63.5], [0.5 * 64 + 63.5, 0.25 * 64 + 63.5]]
    torch.testing.assert_close(place, torch.tensor(expected))
    drawn = render(torch.tensor([[0.5 + 1 / 64, 0.25 + 1 / 64, 0]]), torch.eye(3), Camera())
    assert divmod(int(drawn.argmax()), 128) == (72, 80)
    assert drawn.max() == 1
    torch.testing.assert_close(drawn[72, 83].item(), math.exp(-(3**2) / (2 * 2.5**2)))


def test_the_torus_is_seen_edge_on_and_both_angles_matter() -> None:
    flat = render(torus(), torch.eye(3), Camera()) > 0.5
    rows, columns = flat.any(1).sum(), flat.any(0).sum()
    assert rows < 0.5 * columns
    upright = render(torus(), euler_to_matrix(torch.tensor([0.0, math.pi / 2]), "XZ"), Camera()) > 0.5
    assert upright.any(0).sum() < 0.5 * upright.any(1).sum()
    ring = render(torus(), euler_to_matrix(torch.tensor([math.pi / 2, 0.0]), "XZ"), Camera(sigma=1))
    assert ring[60:68, 60:68].max() < 0.01
    assert ring.sum() > flat.sum()


@pytest.mark.parametrize("change", [{}, {"saturation": "soft"}, {"distance": 0.2}, {"distance": 0.5, "near": 0.3}])
def test_gradients_are_those_of_finite_differences(change: dict) -> None:
    camera = replace(SMALL, **change)
    angles = torch.tensor([[0.3, 0.7, 0.2], [-1.0, 0.1, 2.0]], dtype=torch.float64, requires_grad=True)
    points = torus(8).double().requires_grad_()
    seen = project(points, euler_to_matrix(angles), camera)[1]
    assert seen.all() == ("distance" not in change)
    gradcheck(lambda a, p: render(p, euler_to_matrix(a), camera), (angles, points))


def test_a_clamped_pixel_has_no_gradient_and_a_soft_one_has() -> None:
    points = torch.zeros(3, 3)
    points[:, 0] = 0.01
    for saturation in ("clamp", "soft"):
        moved = points.clone().requires_grad_()
        drawn = render(moved, torch.eye(3), Camera(saturation=saturation))
        height = 3 * math.exp(-((0.5 + 0.005 * 64) ** 2 + 0.5**2) / (2 * 2.5**2))
        torch.testing.assert_close(drawn[63, 63].item(), 1.0 if saturation == "clamp" else 1 - math.exp(-height))
        drawn[63, 62].backward()
        assert (moved.grad[:, 0] < 0).all() == (saturation == "soft")
        assert (moved.grad == 0).all() == (saturation == "clamp")


def test_points_behind_the_near_plane_are_not_drawn() -> None:
    near = Camera().near - Camera().distance  # as the z of a point
    behind = torch.tensor([[0.1, 0.1, near], [0.2, 0.1, -2], [0.1, 0, -3], [0, 0, -2], [1e30, 1e30, -5]])
    points = torch.cat((behind, torus(20))).requires_grad_()
    drawn = render(points, torch.eye(3), Camera())
    torch.testing.assert_close(drawn, render(torus(20), torch.eye(3), Camera()))
    (drawn * torch.rand_like(drawn)).sum().backward()
    assert (points.grad[:5] == 0).all()
    assert points.grad.isfinite().all()
    assert (points.grad[5:] != 0).any(1).all()
    assert render(behind, torch.eye(3), Camera()).max() == 0


def test_a_batch_is_its_single_images() -> None:
    rotation = euler_to_matrix(torch.rand(2, 3, 2), "XZ")
    together = render(torus(50), rotation, SMALL)
    assert together.shape == (2, 3, 12, 9)
    for i, j in ((0, 0), (1, 2)):
        torch.testing.assert_close(together[i, j], render(torus(50), rotation[i, j], SMALL))
    assert render(torus(50), rotation[:0], SMALL).shape == (0, 3, 12, 9)
    assert render(torch.zeros(0, 3), rotation, SMALL).eq(0).all()


def test_a_weight_is_the_height() -> None:
    place, weight = torch.tensor([[2.0, 3.0], [6.0, 1.0]]), torch.tensor([0.25, 0.5])
    drawn = splat(place, weight, 8, 8, 0.5, "clamp")
    torch.testing.assert_close(drawn[3, 2].item(), 0.25)
    torch.testing.assert_close(drawn[1, 6].item(), 0.5)
    torch.testing.assert_close(splat(place, weight, 8, 8, 0.5, "soft")[1, 6].item(), 1 - math.exp(-0.5))


def test_memory_is_linear_in_points_times_height_plus_width() -> None:
    def saved_bytes(count: int, side: int) -> int:
        """Return the number of bytes that the backward pass needs."""
        storages = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = (
                tensor.untyped_storage()
            )  # held, or another tensor would get its address
            return tensor

        angles = torch.rand(3, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            render(torus(count), euler_to_matrix(angles), Camera(height=side, width=side))
        return sum(storage.nbytes() for storage in storages.values())

    assert saved_bytes(4000, 128) < 6 * 4 * 4000 * 256  # the plain sum keeps 4 * 4000 * 128^2 at least
    assert saved_bytes(8000, 128) == pytest.approx(2 * saved_bytes(4000, 128), rel=0.05)
    assert saved_bytes(4000, 256) == pytest.approx(2 * saved_bytes(4000, 128), rel=0.1)


def test_autocast_changes_nothing() -> None:
    angles = torch.rand(2)
    expected = render(torus(), euler_to_matrix(angles, "XZ"), Camera())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(render(torus(), euler_to_matrix(angles, "XZ"), Camera()), expected)


@pytest.mark.slow
def test_compiles_and_exports_whole() -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.pose.point_clouds import torus

class Draw(torch.nn.Module):
    def forward(self, angles, points):
        return render(points, euler_to_matrix(angles, "XZ"), Camera(height=20, width=30))

draw, points = Draw(), torus(50)
compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
for batch in (4, 4, 3):
    angles = torch.rand(batch, 2, requires_grad=True)
    torch.testing.assert_close(compiled(angles, points), draw(angles, points))
    found, = torch.autograd.grad(compiled(angles, points)[:, 5].sum(), angles)
    torch.testing.assert_close(found, torch.autograd.grad(draw(angles, points)[:, 5].sum(), angles)[0])
rows = {"angles": {0: torch.export.Dim("rows")}, "points": {0: torch.export.Dim("count")}}
exported = torch.export.export(draw, (angles, points), dynamic_shapes=rows).module()
torch.testing.assert_close(exported(torch.ones(6, 2), torus(70)), draw(torch.ones(6, 2), torus(70)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("distance", -1, "a number of at least 0"),
        ("distance", math.nan, "a number of at least 0"),
        ("fov_deg", 180, "a number from 1 to 170"),
        ("height", 0, "a whole number of at least 1"),
        ("width", -3, "a whole number of at least 1"),
        ("sigma", 0, "a number of at least 0.1"),
        ("near", 0, "a number of at least 1e-06"),
        ("saturation", "hard", "one of clamp, soft"),
    ],
)
def test_an_invalid_camera_is_refused(option: str, value: float | str, words: str) -> None:
    with pytest.raises(InputError, match=rf"{option}='?{value}'?: expected {words}"):
        Camera(**{option: value})
