"""The oracles are torch.rot90 and torchvision's own rotation of points and boxes."""

import math

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.geometry.points import (
    box_corners,
    oriented_boxes,
    oriented_corners,
    rotate_boxes,
    rotate_oriented_boxes,
    rotate_points,
)

HEIGHT, WIDTH = 70, 100
BOXES = torch.tensor([[10.0, 20, 40, 30], [50, 5, 90, 65]])
ANGLES_DEG = [0.0, 30.0, 90.0, -135.0]


@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_points_rotate_as_in_torchvision(angle_deg: float) -> None:
    pytest.importorskip("torchvision", "0.24")  # it has key points
    points = torch.rand(7, 2) * 100
    expected = F.rotate(tv_tensors.KeyPoints(points, canvas_size=(HEIGHT, WIDTH)), angle_deg)
    found = rotate_points(points, math.radians(angle_deg), HEIGHT, WIDTH, "corner")
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor), atol=1e-3, rtol=0)


@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_boxes_rotate_as_in_torchvision(angle_deg: float) -> None:
    pytest.importorskip("torchvision", "0.24")  # it has rotated boxes
    angle, options = math.radians(angle_deg), {"canvas_size": (HEIGHT, WIDTH), "clamping_mode": None}
    expected = F.rotate(tv_tensors.BoundingBoxes(BOXES, format="XYXY", **options), angle_deg)
    found = rotate_boxes(BOXES, angle, HEIGHT, WIDTH, "corner")
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor), atol=1e-3, rtol=0)

    boxes = oriented_boxes(BOXES)
    expected = F.rotate(tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", **options), angle_deg)
    found = rotate_oriented_boxes(boxes, angle, HEIGHT, WIDTH, "corner")
    found = torch.cat((found[:, :4], found[:, 4:].rad2deg()), 1)
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor), atol=1e-3, rtol=0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_pixel_lies_where_rot90_puts_it(turns: int) -> None:
    image = torch.zeros(9, 9)
    image[2, 5] = 1
    ((row, column),) = torch.rot90(image, turns).nonzero()
    expected = torch.stack((column, row)).float()
    angle = turns * math.pi / 2
    for origin, offset in (("centre", 0.0), ("corner", 0.5)):
        found = rotate_points(torch.tensor([5.0, 2.0]) + offset, angle, 9, 9, origin)
        torch.testing.assert_close(found, expected + offset, atol=1e-5, rtol=0)


def test_a_spot_lies_where_rotate_puts_it() -> None:
    """The centroid of a spot, in an image that is not square."""
    row, column = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    spot = torch.exp(-((row - 20) ** 2 + (column - 50) ** 2) / 18)
    rotated = rotate(spot, 0.7, "bicubic")
    found = torch.stack([(rotated * each).sum() / rotated.sum() for each in (column, row)])
    expected = rotate_points(torch.tensor([50.0, 20.0]), 0.7, 60, 80, "centre")
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_corners_of_oriented_boxes_are_rotated_corners() -> None:
    corners = box_corners(BOXES)
    torch.testing.assert_close(oriented_corners(oriented_boxes(BOXES)), corners)
    for angle in (0.4, -2.9):
        found = oriented_corners(rotate_oriented_boxes(oriented_boxes(BOXES), angle, HEIGHT, WIDTH, "centre"))
        expected = rotate_points(corners, angle, HEIGHT, WIDTH, "centre")
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_angles_are_broadcast_and_have_a_gradient() -> None:
    points, angle = torch.rand(3, 5, 2, dtype=torch.float64) * 9, torch.rand(3, 1, dtype=torch.float64)
    found = rotate_points(points, angle, HEIGHT, WIDTH, "corner")
    for one, turn, expected in zip(points, angle, found, strict=True):
        torch.testing.assert_close(rotate_points(one, float(turn), HEIGHT, WIDTH, "corner"), expected)
    assert rotate_oriented_boxes(torch.rand(5, 5), angle.float(), HEIGHT, WIDTH, "corner").shape == (3, 5, 5)
    assert rotate_boxes(torch.zeros(0, 4), 0.3, HEIGHT, WIDTH, "corner").shape == (0, 4)
    points.requires_grad_(), angle.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, a: rotate_points(p, a, HEIGHT, WIDTH, "corner"), (points, angle))


def test_points_are_refused_in_one_line(unchecked: None) -> None:
    with pytest.raises(InputError, match=r"points: expected a tensor \[\*n, 2\] of real numbers, got"):
        rotate_points(torch.rand(4, 3), 0.1, HEIGHT, WIDTH, "centre")
    with pytest.raises(InputError, match=r"origin: expected one of centre, corner, got 'middle'"):
        rotate_points(torch.rand(4, 2), 0.1, HEIGHT, WIDTH, "middle")
