"""Euler angles: compared with SciPy, which has the same convention, and with matrices written by hand."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from stnrot.errors import InputError
from stnrot.geometry.euler import euler_jacobian, euler_to_matrix, geodesic_distance, matrix_to_euler

INTRINSIC = [
    "".join(axes)
    for count in (1, 2, 3)
    for axes in product("XYZ", repeat=count)
    if all(one != other for one, other in pairwise(axes))
]
ORDERS = [*INTRINSIC, *map(str.lower, INTRINSIC)]


def draw(count: int, order: str) -> torch.Tensor:
    return math.pi * (2 * torch.rand(count, len(order), dtype=torch.float64) - 1)


def by_scipy(angles: torch.Tensor, order: str) -> np.ndarray:
    return Rotation.from_euler(order, angles.numpy()).as_matrix()


def make_rot(angle_x: float, angle_y: float, angle_z: float) -> torch.Tensor:
    """Multiply 4 x 4 matrices, X then Y then Z."""
    (cx, sx), (cy, sy), (cz, sz) = ((math.cos(a), math.sin(a)) for a in (angle_x, angle_y, angle_z))
    about_x = torch.tensor([[1, 0, 0, 0], [0, cx, -sx, 0], [0, sx, cx, 0], [0, 0, 0, 1]], dtype=torch.float64)
    about_y = torch.tensor([[cy, 0, sy, 0], [0, 1, 0, 0], [-sy, 0, cy, 0], [0, 0, 0, 1]], dtype=torch.float64)
    about_z = torch.tensor([[cz, -sz, 0, 0], [sz, cz, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    return about_x @ about_y @ about_z


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_scipys(order: str) -> None:
    angles = draw(200, order)
    matrix = euler_to_matrix(angles, order)
    np.testing.assert_allclose(matrix.numpy(), by_scipy(angles, order), rtol=0, atol=1e-14)
    found = matrix_to_euler(matrix, order)
    if len(order) < 3:
        torch.testing.assert_close(found, angles, rtol=0, atol=1e-14)
    else:
        expected = Rotation.from_matrix(matrix.numpy()).as_euler(order)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("x", "y", "z"), [(0.3, 0, -0.8), (0.3, -1.2, 2.9), (-3.0, 1.6, 0.1)])
def test_x_then_y_then_z_in_four_by_four(x: float, y: float, z: float) -> None:
    expected = make_rot(x, y, z)
    assert expected[3].tolist() == expected[:, 3].tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(euler_to_matrix(torch.tensor([x, y, z], dtype=torch.float64)), expected[:3, :3])
    if y == 0:
        torch.testing.assert_close(euler_to_matrix(torch.tensor([x, z], dtype=torch.float64), "XZ"), expected[:3, :3])


@pytest.mark.parametrize("order", [order for order in ORDERS if len(order) == 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gimbal_lock_keeps_the_rotation(order: str, dtype: torch.dtype) -> None:
    ends = (0, math.pi) if order[0] == order[2] else (-math.pi / 2, math.pi / 2)
    eps = torch.finfo(dtype).eps
    for end, off in product(ends, (0, 1e-16, 1e-9, 1e-7, 1e-4, 1e-2)):
        angles = draw(100, order)
        angles[:, 1] = end + (off if end <= 0 else -off)
        matrix = euler_to_matrix(angles.to(dtype), order)
        found = matrix_to_euler(matrix, order)
        torch.testing.assert_close(euler_to_matrix(found, order), matrix, rtol=0, atol=8 * eps)
        torch.testing.assert_close(found[:, 1].double().cos(), angles[:, 1].cos(), rtol=0, atol=8 * eps)
        torch.testing.assert_close(found[:, 1].double().sin(), angles[:, 1].sin(), rtol=0, atol=8 * eps)
        if off == 0:
            assert (found[:, 0 if order.islower() else 2].abs() < 8 * eps).all()


def test_gradients_go_back_through_gimbal_lock() -> None:
    """In gimbal lock the derivatives of the angles do not exist, but those of their matrix do."""
    for order, end in (("XYZ", math.pi / 2), ("ZXZ", 0.0), ("zyx", -math.pi / 2)):
        angles = torch.tensor([0.4, end, 0.7], dtype=torch.float64, requires_grad=True)
        found = matrix_to_euler(euler_to_matrix(angles, order), order)
        assert torch.autograd.grad(found.sum(), angles)[0].isfinite().all()
        target = euler_to_matrix(draw(1, order)[0], order)
        gradcheck(lambda x, target=target, order=order: (euler_to_matrix(x, order) - target).square().sum(), (angles,))


@pytest.mark.parametrize("order", ORDERS)
def test_jacobian_is_that_of_autograd(order: str) -> None:
    angles = draw(2, order)
    for each, found in zip(angles, euler_jacobian(angles, order), strict=True):
        expected = torch.autograd.functional.jacobian(lambda x: euler_to_matrix(x, order), each)
        torch.testing.assert_close(found, expected.movedim(-1, 0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", ["X", "ZY", "XYZ", "yxy"])
def test_a_round_trip_has_the_gradient_one(order: str) -> None:
    angles = torch.full((3, len(order)), 0.7, dtype=torch.float64) + 0.1 * draw(3, order)
    for each in angles:
        jacobian = torch.autograd.functional.jacobian(lambda x: matrix_to_euler(euler_to_matrix(x, order), order), each)
        torch.testing.assert_close(jacobian, torch.eye(len(order), dtype=torch.float64), rtol=0, atol=1e-13)


def test_distance_is_scipys_magnitude_near_zero_and_pi_too() -> None:
    for angle in (0.0, 1e-12, 1e-5, 0.5, 3.0, math.pi - 1e-9, math.pi):
        axis = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
        between = Rotation.from_rotvec(angle * axis.numpy())
        start = Rotation.random(20, random_state=0)
        a, b = (torch.from_numpy(each.as_matrix()) for each in (start, start * between))
        found = geodesic_distance(a, b)
        np.testing.assert_allclose(found.numpy(), angle, rtol=0, atol=2e-15)
        np.testing.assert_allclose(found.numpy(), (start.inv() * start * between).magnitude(), rtol=0, atol=1e-14)
        torch.testing.assert_close(geodesic_distance(b, a), found, rtol=0, atol=1e-15)


def test_any_leading_shape() -> None:
    angles = draw(24, "XYZ").view(2, 3, 4, 3)
    matrix = euler_to_matrix(angles)
    assert matrix.shape == (2, 3, 4, 3, 3)
    torch.testing.assert_close(matrix[1, 2, 3], euler_to_matrix(angles[1, 2, 3]))
    assert matrix_to_euler(matrix).shape == angles.shape
    assert geodesic_distance(matrix, matrix).shape == (2, 3, 4)
    assert euler_to_matrix(angles[:0]).shape == (0, 3, 4, 3, 3)


@pytest.mark.parametrize("order", ["XZ", "XYZ", "zxz"])
def test_angles_of_sixteen_bits_give_rotations(order: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        angles = torch.nn.Linear(5, len(order))(torch.randn(4, 5))
        assert angles.dtype == torch.bfloat16
        matrix = euler_to_matrix(angles, order)
        back = matrix_to_euler(matrix, order)
        again = euler_to_matrix(back, order)
        apart = geodesic_distance(matrix, again)
        assert euler_jacobian(angles, order).dtype == torch.float32
    assert (matrix @ matrix.mT - torch.eye(3)).abs().max() < 1e-6
    torch.testing.assert_close(again, matrix, rtol=0, atol=1e-6)
    assert apart.max() < 1e-6


@pytest.mark.parametrize("order", ["", "XX", "XYY", "XYZX", "Xy", "AB", "X Z"])
def test_an_invalid_order_is_refused(order: str) -> None:
    for function in (euler_to_matrix, euler_jacobian):
        with pytest.raises(InputError, match=f"order='{order}': expected one to three of X, Y and Z, no axis"):
            function(torch.zeros(max(1, len(order))), order)
    with pytest.raises(InputError, match="no axis twice in a row"):
        matrix_to_euler(torch.eye(3), order)


def test_a_wrong_number_of_angles_is_refused() -> None:
    for function in (euler_to_matrix, euler_jacobian):
        with pytest.raises(
            InputError, match=r"angles: expected 2, one for each axis of order='XZ', got .* of shape \[4, 3\]"
        ):
            function(torch.zeros(4, 3), "XZ")
