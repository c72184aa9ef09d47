"""The pose of a solid from an image. The search never sees the true pose; SciPy checks every optimum."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import least_squares
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.euler import euler_to_matrix, geodesic_distance
from stnrot.geometry.splat import Camera, render
from stnrot.pose.fit import STEPS, fit_pose
from stnrot.pose.levenberg_marquardt import ROBUST, descend, normal_equations, robust_loss
from stnrot.pose.point_clouds import torus
from stnrot.pose.view import View

SMALL = Camera(height=48, width=48, sigma=1.0)
RING = torus(300)
BLOB = torch.randn(150, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor([0.4, 0.25, 0.15])
HALF_TURNS = [torch.diag(torch.tensor(each)) for each in ((1.0, 1, 1), (1.0, -1, -1), (-1.0, 1, -1), (-1.0, -1, 1))]


def poses(count: int, axes: str) -> Tensor:
    return math.pi * (2 * torch.rand(count, len(axes)) - 1)


def images(angles: Tensor, points: Tensor = RING, axes: str = "XZ", camera: Camera = SMALL) -> Tensor:
    return render(points, euler_to_matrix(angles, axes), camera)[:, None]


def axis_error(found: Tensor, true: Tensor, axes: str = "XZ") -> Tensor:
    """Return the degrees between the axes of two tori, which have no front."""
    a, b = found[..., 1].double(), euler_to_matrix(true.double(), axes)[..., 1]
    return torch.rad2deg(torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1).abs()))


def turn_error(found: Tensor, true: Tensor, axes: str) -> Tensor:
    return torch.rad2deg(geodesic_distance(found.double(), euler_to_matrix(true.double(), axes)))


def mirrored_in_depth(angles: Tensor) -> Tensor:
    """Return the X and Z angles of the torus that an orthographic camera shows as the mirror image."""
    return angles * torch.tensor([-1.0, 1.0])


def test_random_poses_of_a_torus() -> None:
    true = poses(8, "XZ")
    found = fit_pose(images(true), RING, camera=SMALL)
    assert axis_error(found.matrix, true).max() < 0.1
    assert found.converged.all()
    assert found.loss.max() < 1e-6
    view = View(RING, SMALL, "XZ", 1, 1)
    trapped, loss, _ = descend(view, mirrored_in_depth(true), view.reduced(images(true)[:, 0]), 60)
    mirrored = axis_error(euler_to_matrix(trapped, "XZ"), true) > 2
    assert mirrored.sum() >= 2  # the loss has a minimum at the mirror image, and the fits did not end there
    assert (loss[mirrored] > 1).all()


def test_the_default_camera_and_a_single_image() -> None:
    true = torch.tensor([0.3, -0.8])
    image = render(torus(), euler_to_matrix(true, "XZ"), Camera())
    found = fit_pose(image, torus())
    assert axis_error(found.matrix[0], true) < 0.02
    assert turn_error(found.matrix[0], true, "XZ") < 0.02  # of the four, the one whose points these are
    assert found.angles.shape == (1, 2)


def test_noise_and_an_occluded_quadrant() -> None:
    camera = Camera(height=64, width=64, sigma=1.25)
    true = poses(4, "XZ")
    seen = images(true, torus(500), camera=camera)
    seen[:2, :, :32, :32] = 0
    seen[2:, :, 32:, :32] = 0.7
    found = fit_pose((seen + 0.1 * torch.randn(seen.shape)).clamp(0, 1), torus(500), camera=camera)
    assert axis_error(found.matrix, true).max() < 2
    assert found.converged.all()
    assert (found.loss > 1e-3).all()


def distinct(matrix: Tensor) -> Tensor:
    """Return the rotations of a stack that are 3 degrees from each before them."""
    kept = matrix[:1]
    for each in matrix[1:]:
        if torch.rad2deg(geodesic_distance(kept, each.expand_as(kept))).min() > 3:
            kept = torch.cat((kept, each[None]))
    return kept


def test_what_a_pose_holds() -> None:
    true = poses(3, "XZ")
    image = (images(true) + 0.05 * torch.randn(3, 1, 48, 48)).clamp(0, 1)
    found = fit_pose(image, RING, camera=SMALL)
    torch.testing.assert_close(found.matrix, euler_to_matrix(found.angles, "XZ"))
    torch.testing.assert_close(found.hypotheses[:, 0], found.angles)
    torch.testing.assert_close(found.hypotheses_loss[:, 0], found.loss)
    view = View(RING, SMALL, "XZ", 1, 1)
    rows, columns = view.window
    assert 0 < rows.start < 24 < rows.stop < 48
    for k in range(3):
        losses, finite = found.hypotheses_loss[k], found.hypotheses_loss[k].isfinite()
        assert (losses[finite].diff() >= 0).all()
        hypotheses = euler_to_matrix(found.hypotheses[k], "XZ")
        assert len(distinct(hypotheses)) == len(distinct(hypotheses[finite])) == finite.sum()
        turned = torch.stack([found.matrix[k] @ half for half in HALF_TURNS])[:, None].expand(4, 8, 3, 3)
        apart = geodesic_distance(turned, hypotheses.expand_as(turned)).amin(0)
        drawn = render(RING, hypotheses, SMALL).flatten(1)
        change, whole = ((each / 0.15).square() for each in (drawn - drawn[:1], drawn[:1]))
        like = (change / (1 + change)).sum(1) <= 0.08 * (whole / (1 + whole)).sum()
        assert torch.equal(found.alike[k], (torch.rad2deg(apart) < 6) & like & finite)
        for angles, loss in zip(found.hypotheses[k, finite], losses[finite], strict=True):
            off = (render(RING, euler_to_matrix(angles, "XZ"), SMALL) - image[k, 0])[rows, columns].square()
            torch.testing.assert_close(loss, (off / (1 + off / 0.15**2)).mean(), rtol=1e-4, atol=1e-7)
    assert found.alike[:, 0].all()


def test_the_four_of_a_symmetric_solid_are_one() -> None:
    """An exactly symmetric solid: all four losses are equal."""
    quarter = RING[:75].abs()
    solid = torch.cat([quarter @ half for half in HALF_TURNS])
    true = torch.tensor([[0.4, 0.9]])
    found = fit_pose(images(true, solid), solid, camera=SMALL)
    assert found.alike.sum() == 4
    assert found.hypotheses_loss[found.alike].max() < 1e-10
    assert (found.hypotheses_loss[~found.alike] > 1e-5).all()
    assert axis_error(found.matrix, true) < 0.02


@pytest.mark.parametrize("axes", ["X", "y", "ZX", "xz", "YX", "XYZ", "zxz"])
def test_a_solid_without_symmetry(axes: str) -> None:
    camera = replace(SMALL, height=32, width=32)
    solid = BLOB[:60] + torch.tensor([0.2, -0.1, 0.1])  # and not about its own origin
    true = poses(2, axes)
    found = fit_pose(images(true, solid, axes, camera), solid, axes, camera=camera)
    assert turn_error(found.matrix, true, axes).max() < 0.05
    assert found.converged.all()
    assert found.hypotheses.shape[2] == len(axes)


@pytest.mark.parametrize(
    "change",
    [
        {"saturation": "soft"},
        {"height": 40, "width": 90},
        {"height": 51, "width": 37},
        {"distance": 0.4},
        {"distance": 4, "fov_deg": 30},
        {"near": 1.9},
        {"sigma": 0.5},
    ],
)
def test_other_cameras(change: dict) -> None:
    camera = replace(SMALL, **change)
    true = torch.tensor([[0.7, -1.1]])
    found = fit_pose(images(true, BLOB, camera=camera), BLOB, camera=camera)
    assert turn_error(found.matrix, true, "XZ") < 0.02
    assert found.converged.all()


def test_more_points_than_a_reduced_view_has_and_float64() -> None:
    solid, true = torus(2501), torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    found = fit_pose(images(true, solid.double()), solid, camera=SMALL)
    assert found.matrix.dtype == torch.float64
    assert turn_error(found.matrix, true, "XZ") < 1e-6
    assert found.loss < 1e-14


def test_one_point() -> None:
    """All angles fit that bring it to the same pixel."""
    point = torch.tensor([[0.3, 0.4, 0.1]])
    image = images(torch.tensor([[0.7, -1.1]]), point)
    found = fit_pose(image, point, camera=SMALL)
    torch.testing.assert_close(render(point, found.matrix[0], SMALL), image[0, 0], rtol=0, atol=1e-3)


def test_a_batch_gives_what_its_images_give() -> None:
    true = poses(2, "XZ")
    image = (images(true) + 0.05 * torch.randn(2, 1, 48, 48)).clamp(0, 1)
    together = fit_pose(image, RING, camera=SMALL)
    for k in range(2):
        alone = fit_pose(image[k, 0], RING, camera=SMALL)
        torch.testing.assert_close(alone.matrix[0], together.matrix[k], rtol=0, atol=1e-4)
        torch.testing.assert_close(alone.loss[0], together.loss[k], rtol=1e-4, atol=1e-7)


def test_a_start_or_its_mirror_image_in_depth_is_enough() -> None:
    true = poses(4, "XZ")
    near = true + math.radians(5) * (2 * torch.rand(4, 2) - 1)
    for start in (near, mirrored_in_depth(near)):
        found = fit_pose(images(true), RING, camera=SMALL, start=start)
        assert axis_error(found.matrix, true).max() < 0.1
        assert found.converged.all()
    far = fit_pose(images(true), RING, camera=SMALL, start=true + math.pi / 3)
    assert (axis_error(far.matrix, true) > 2).any()  # the start decided the result


def test_an_image_of_something_else_has_not_converged() -> None:
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(48) - 23.5, indexing="ij")
    others = [
        torch.zeros(48, 48),
        torch.ones(48, 48),
        torch.full((48, 48), 0.5),
        torch.rand(48, 48),
        ((x.abs() < 15) & (y.abs() < 3)).float(),
        (torch.hypot(x, y) < 4).float(),
        (x > 8).float(),
    ]
    found = fit_pose(torch.stack(others)[:, None], RING, camera=SMALL)
    assert not found.converged.any()
    assert found.loss.isfinite().all()
    assert found.angles.isfinite().all()
    dots = fit_pose(torch.zeros(48, 48), RING[:20], camera=SMALL)
    assert dots.loss < 0.4 * ROBUST**2  # little is wrong if there is little to see
    assert not dots.converged


@pytest.mark.ci
def test_another_solid_or_camera_has_not_converged() -> None:
    """A box with a cone on one end covers a torus almost, and the other way round: their outlines differ."""
    draw = torch.Generator().manual_seed(0)
    box = torch.rand(600, 3, generator=draw) - 0.5
    side = torch.randint(3, (600, 1), generator=draw)
    box = box.scatter(1, side, torch.randint(2, (600, 1), generator=draw) - 0.5) * torch.tensor([0.7, 0.5, 0.3])
    up, round_ = torch.rand(2, 400, generator=draw)
    round_ = 2 * math.pi * round_
    cone = torch.stack((0.35 + 0.4 * up, 0.2 * (1 - up) * round_.cos(), 0.2 * (1 - up) * round_.sin()), 1)
    part, solid = torch.cat((box, cone)), torus()
    there = images(poses(5, "XYZ"), part, "XYZ", Camera())
    assert not fit_pose(there, solid).converged.any()
    assert fit_pose(there, part, "XYZ").converged.all()
    nearer = images(poses(5, "XZ"), solid, "XZ", Camera(fov_deg=80))
    assert not fit_pose(nearer, solid).converged.any()


def test_half_turns_of_a_solid_without_symmetry_are_not_alike() -> None:
    """Three legs of unlike lengths."""
    along = torch.linspace(0, 1, 40)[:, None]
    legs = torch.cat([length * along * axis for length, axis in zip((0.8, 0.5, 0.3), torch.eye(3), strict=True)])
    found = fit_pose(images(poses(6, "XYZ"), legs, "XYZ", Camera()), legs, "XYZ")
    assert (found.alike.sum(1) == 1).all()


def test_angles_stay_within_a_half_turn() -> None:
    true = torch.tensor([[math.pi - 1e-3, 0.6], [1e-3 - math.pi, -0.6]])
    found = fit_pose(images(true), RING, camera=SMALL)
    assert (found.hypotheses.abs() <= math.pi).all()
    assert (found.angles.abs() <= math.pi).all()


def test_a_descent_cut_short_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, 1, 1)
    true = poses(2, "XZ")
    found = fit_pose(images(true), RING, camera=SMALL)
    assert axis_error(found.matrix, true).max() < 1
    assert not found.converged.any()


def test_no_graph_and_no_autocast() -> None:
    image = images(torch.tensor([[0.7, -1.1]])).requires_grad_()
    expected = fit_pose(image, RING, camera=SMALL)
    assert not expected.matrix.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        found = fit_pose(image, RING, camera=SMALL)
    for name, value in vars(expected).items():
        assert torch.equal(getattr(found, name), value), name


VIEWS = [
    View(BLOB.double(), SMALL, "XZ", 4, 1),
    View(BLOB[::2].double(), SMALL, "xyz", 2, 2),
    View(BLOB.double(), replace(SMALL, saturation="soft", height=24), "ZYZ", 1, 1),
    View(BLOB.double(), SMALL, "XZ", 1, 1),
    View(BLOB.double(), replace(SMALL, distance=0.3, height=41), "XYZ", 1, 1),
]


def drawn(view: View, angles: Tensor) -> Tensor:
    return view.draw(euler_to_matrix(angles, view.order))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.order}{view.factor}")
def test_slopes_are_finite_differences_of_the_drawing(view: View) -> None:
    angles = poses(3, view.order).double()
    image, slopes = view.draw_with_slopes(angles)
    torch.testing.assert_close(image, drawn(view, angles), rtol=0, atol=1e-12)
    step = 1e-6
    for k in range(angles.shape[1]):
        off = step * torch.eye(angles.shape[1], dtype=torch.float64)[k]
        above, below = drawn(view, angles + off), drawn(view, angles - off)
        bent = (above == 1) != (below == 1)  # a pixel that is clamped on one side only
        assert bent.float().mean() < 1e-3
        expected = ((above - below) / (2 * step)).masked_fill(bent, 0)
        torch.testing.assert_close(slopes[:, k].masked_fill(bent, 0), expected, rtol=1e-6, atol=1e-7)
        assert expected.abs().max() > 0.1


def test_a_view_is_the_image_cropped_and_joined() -> None:
    true = poses(2, "XZ").double()
    image = render(BLOB.double(), euler_to_matrix(true, "XZ"), SMALL)
    exact = VIEWS[3]
    rows, columns = exact.window
    assert torch.equal(exact.reduced(image), image[:, rows, columns].flatten(1))
    torch.testing.assert_close(drawn(exact, true), exact.reduced(image), rtol=0, atol=1e-12)
    outside = image.clone()
    outside[:, rows, columns] = 0
    assert outside.max() < 0.02  # four standard deviations from the farthest point
    assert drawn(exact, true).max() == 1 > drawn(VIEWS[0], true).max()
    height, width = VIEWS[0].size
    joined = image[:, rows, columns].unflatten(1, (height, 4)).unflatten(3, (width, 4)).mean((2, 4))
    torch.testing.assert_close(VIEWS[0].reduced(image), joined.flatten(1))
    for factor in (2, 4):  # with few points the reduced image is the mean of the pixels
        smooth = replace(SMALL, sigma=8)
        view = View(BLOB[:1].double() / 10, smooth, "XZ", factor, 0.05)
        small, large = drawn(view, true), drawn(replace(view, factor=1), true)
        side = replace(view, factor=1).size
        large = torch.nn.functional.avg_pool2d(large.unflatten(1, side)[:, None], factor).flatten(1)
        torch.testing.assert_close(small, large, rtol=0, atol=0.002)


def test_normal_equations_are_those_of_autograd() -> None:
    view = VIEWS[2]
    angles, target = poses(2, view.order).double(), torch.rand(2, math.prod(view.size), dtype=torch.float64)
    found = normal_equations(view, angles, target)
    for k in range(2):
        leaf = angles[k : k + 1].clone().requires_grad_()
        loss = robust_loss(drawn(view, leaf) - target[k : k + 1])
        torch.testing.assert_close(found.loss[k], loss[0].detach())
        torch.testing.assert_close(found.gradient[k], torch.autograd.grad(loss, leaf)[0][0] / 2)
        jacobian = torch.autograd.functional.jacobian(lambda x: drawn(view, x[None])[0], angles[k])
        weight = (1 + ((drawn(view, angles)[k] - target[k]) / 0.15).square()) ** -2
        torch.testing.assert_close(found.matrix[k], jacobian.T @ (weight[:, None] * jacobian))


def test_the_robust_loss() -> None:
    small, large = torch.full((1, 1), 1e-4, dtype=torch.float64), torch.full((1, 1), 100.0)
    assert robust_loss(small).item() == pytest.approx(1e-8, rel=1e-5)
    assert robust_loss(large).item() == pytest.approx(0.15**2, rel=1e-5)
    assert robust_loss(torch.tensor([[0.15, -0.15, 0.0]])).item() == pytest.approx(0.15**2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("view", [VIEWS[3], VIEWS[2]], ids=["clamp", "soft"])
def test_descent_ends_where_that_of_scipy_does(view: View, clean: bool) -> None:
    true = poses(3, view.order).double()
    target = drawn(view, true)
    if not clean:
        target = target + 0.05 * torch.randn_like(target)
        target[:, : target.shape[1] // 5] = 0.6
    start = true + math.radians(2) * (2 * torch.rand_like(true) - 1)
    found, loss, ended = descend(view, start, target, 60)
    assert ended.all()
    for k in range(3):

        def residual(x: np.ndarray, k: int = k) -> np.ndarray:
            return (drawn(view, torch.from_numpy(x)[None])[0] - target[k]).numpy()

        oracle = least_squares(
            residual,
            start[k].numpy(),
            loss=lambda z: np.array([z / (1 + z), (1 + z) ** -2.0, -2 * (1 + z) ** -3.0]),
            f_scale=ROBUST,
            xtol=1e-12,
        )
        np.testing.assert_allclose(found[k].numpy(), oracle.x, rtol=0, atol=1e-6 if clean else 5e-3)
        assert loss[k].item() == pytest.approx(2 * oracle.cost, rel=1e-5, abs=1e-9)
    if clean:
        torch.testing.assert_close(found, true, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_descent_never_raises_the_loss_and_reports_when_it_was_cut_short() -> None:
    view = View(BLOB[:5].double(), replace(SMALL, sigma=0.5), "XYZ", 1, 1)  # small dots: a full step often overshoots
    true, start = poses(20, "XYZ").double(), poses(20, "XYZ").double()
    target, given = drawn(view, true), start.clone()
    before = robust_loss(drawn(view, start) - target)
    for steps in (*range(20), 500):
        found, loss, ended = descend(view, start, target, steps)
        torch.testing.assert_close(robust_loss(drawn(view, found) - target), loss)
        assert (loss <= before).all()
        before = loss
        assert ended.all() == (steps == 500)
    assert torch.equal(start, given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"image": torch.zeros(47, 48)},
            r"image: expected \[48, 48\] or \[B, 1, 48, 48\], the camera's size, got \[47, 48\]",
        ),
        ({"image": torch.zeros(0, 1, 48, 48)}, r"image: expected .* got \[0, 1, 48, 48\]"),
        (
            {"image": torch.full((48, 48), 1.5)},
            r"image: expected real numbers from 0 to 1, got torch.float32 from 1.5 to 1.5",
        ),
        ({"image": torch.full((48, 48), -0.5)}, r"image: expected real numbers from 0 to 1, .* from -0.5 to -0.5"),
        ({"image": torch.full((48, 48), math.nan)}, r"image: expected real numbers from 0 to 1, .* from nan to nan"),
        ({"image": torch.zeros(7, 9), "camera": Camera(height=7, width=9)}, r"at least 8 pixels a side, got 7 x 9"),
        ({"points": RING[:0]}, r"points: expected N x 3 finite numbers, N at least 1, got shape \[0, 3\]"),
        ({"points": RING / 0}, r"points: expected N x 3 finite numbers"),
        (
            {"camera": replace(SMALL, near=3)},
            r"all points are behind the camera: expected a distance of more than 2\.\d+, got 2",
        ),
        ({"points": RING - torch.tensor([0, 0, 4.0]), "axes": "Z"}, r"all points are behind the camera"),
        ({"axes": ""}, r"axes='': expected one to three of X, Y and Z"),
        ({"axes": "XYZX"}, r"axes='XYZX': expected one to three of X, Y and Z"),
        ({"axes": "UV"}, r"axes='UV': expected one to three of X, Y and Z"),
        (
            {"start": torch.zeros(2, 2)},
            r"start: expected \[1, 2\] finite angles for 1 images and axes=XZ, got shape \[2, 2\]",
        ),
        ({"start": torch.zeros(1, 3)}, r"start: expected \[1, 2\] finite angles"),
        ({"start": torch.full((1, 2), math.nan)}, r"start: expected \[1, 2\] finite angles"),
    ],
)
def test_a_wrong_argument_is_named(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        fit_pose(**({"image": torch.zeros(48, 48), "points": RING, "camera": SMALL} | change))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("axes", "seen"), [("Y", False), ("X", True), ("ZY", False), ("yz", False), ("zy", True)])
def test_rotations_that_bring_a_point_in_front_of_the_camera(axes: str, seen: bool) -> None:
    """A point near the axis y, behind the near plane: neither a rotation about y nor one about z after it helps."""
    camera, point = replace(SMALL, near=2.5), torch.tensor([[0.1, 3.0, 0.0]])
    assert (images(poses(500, axes), point, axes, camera).max() > 0) == seen
    if seen:
        assert fit_pose(torch.zeros(48, 48), point, axes, camera=camera).angles.isfinite().all()
    else:
        with pytest.raises(
            InputError, match=r"all points are behind the camera: .* a distance of more than 2\.4, got 2"
        ):
            fit_pose(torch.zeros(48, 48), point, axes, camera=camera)


def test_other_types_are_named(printed: Callable[[str], list[str]]) -> None:
    code = """
import numpy as np
import torch
from PIL import Image
from stnrot.errors import InputError
from stnrot.pose.fit import fit_pose
black, points = torch.zeros(128, 128), torch.rand(9, 3)
for image, solid, start in (
    (black.expand(1, 3, 128, 128), points, None), (black[0], points, None), (black.int() + 200, points, None),
    (black.numpy()[1:], points, None), (Image.new("RGB", (9, 8)), points, None), ([], points, None),
    ([black, None], points, None), ("image.png", points, None), (black, points.T, None), (black, points[0], None),
    (black, points.tolist(), None), (black, np.array([None, None, None]), None), (black, points > 0, None),
    (black, np.ma.masked_array(points.numpy(), False), None), (black, points.to("meta"), None),
    (b"image", points, None),
    (black, points, [[0.1, 0.2]]), (black, points, np.zeros((1, 3))), (black, points, np.zeros((1, 2), complex)),
):
    try:
        fit_pose(image, solid, start=start)
    except InputError as error:
        print(error)
try:
    fit_pose(black, points, ["X", "Z"])
except InputError as error:
    print(error)
"""
    size = (
        ": expected [128, 128] or [B, 1, 128, 128], the camera's size, got {}; scale the image, or set height "
        "and width of the camera"
    )
    kinds = "expected a tensor, a NumPy array, a PIL image or a list of these, got"
    assert printed(code) == [
        "image" + size.format([1, 3, 128, 128]),
        "image: expected [B, C, H, W], [C, H, W] or [H, W], got [128]",
        "image: expected real numbers from 0 to 1, got torch.int32 from 200 to 200; divide by the largest possible "
        "value",
        "image" + size.format([127, 128]),
        "image" + size.format([8, 9]),
        "image: expected at least one image, got an empty list",
        f"image[1]: {kinds} NoneType",
        f"image: {kinds} str",
        "points: expected N x 3 finite numbers, N at least 1, got shape [3, 9]",
        "points: expected N x 3 finite numbers, N at least 1, got shape [3]",
        "points: expected a dense tensor or a NumPy array of real numbers, got list of 9",
        "points: expected a dense tensor or a NumPy array of real numbers, got an array of object",
        "points: expected real numbers, got torch.bool",
        "points: expected an array without a mask, got a masked array; leave out what is masked",
        "points: expected a dense tensor or a NumPy array of real numbers, got torch.float32 of shape [9, 3] without "
        "values",
        f"image: {kinds} bytes",
        "start: expected angles, a PoseNet or the checkpoint of a run of task=pose, got list",
        "start: expected [1, 2] finite angles for 1 images and axes=XZ, got shape [1, 3]",
        "start: expected a dense tensor or a NumPy array of real numbers, got an array of complex128",
        "axes=['X', 'Z']: expected one to three of X, Y and Z, no axis twice in a row, all in upper case (axes rotate "
        "with the body) or all in lower case (axes stay fixed), such as XYZ",
    ]


def test_images_of_every_kind() -> None:
    """Bytes are 255 steps, 16 bits 65,535; a grey image in colours is grey again; points and start are arrays."""
    true = poses(2, "XZ")
    exact = images(true)
    whole = fit_pose(exact, RING, camera=SMALL)
    first = (exact[0, 0].numpy() * 255).round().astype(np.uint8)
    deep = (exact[:, 0, :, :, None].numpy() * 65535).round().astype(np.uint16)
    points = RING.double().numpy()[::-1][::-1]
    for image, limit in (
        (first, 0.1),
        (torch.from_numpy(first), 0.1),
        (torch.from_numpy(first)[None], 0.1),
        (Image.fromarray(first), 0.1),
        (Image.fromarray(first).convert("RGB"), 0.1),
        (np.stack([first] * 3 + [np.full_like(first, 255)], -1), 0.1),
        (Image.fromarray(deep[0, ..., 0]), 0.001),
        (Image.fromarray(deep[0, ..., 0].astype(np.int32)), 0.001),
        (deep, 0.001),
        ([deep[0], exact[1]], 0.001),
        ((exact[0, 0].numpy().astype(">f8"), exact[1, 0]), 0.001),
    ):
        found = fit_pose(
            image,
            points,
            camera=SMALL,
            start=true[: 2 if isinstance(image, list | tuple) or image is deep else 1].numpy(),
        )
        assert isinstance(found.angles, Tensor)
        assert (found.angles - whole.angles[: len(found.angles)]).abs().rad2deg().max() < limit
    mask = first > 127
    for image in (mask, torch.from_numpy(mask), Image.fromarray(mask)):
        assert axis_error(fit_pose(image, RING, camera=SMALL).matrix, true[:1]) < 5
