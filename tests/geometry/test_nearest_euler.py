"""Angles about one or two axes that move an axis, or approximate a rotation: compared with SciPy on a grid."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from stnrot.geometry.euler import euler_to_matrix, geodesic_distance
from stnrot.geometry.nearest_euler import axis_to_euler, nearest_euler

UPPER = ["".join(o) for n in (1, 2, 3) for o in product("XYZ", repeat=n) if all(a != b for a, b in pairwise(o))]
ORDERS = [*UPPER, *map(str.lower, UPPER)]


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 3, dtype=torch.float64), dim=-1)


def scipys(angles: torch.Tensor, order: str) -> ScipyRotation:
    return ScipyRotation.from_euler(order, angles.numpy())


def everywhere(order: str, steps: int = 121) -> np.ndarray:
    """Return the rotations by one or two angles, on a grid of three degrees."""
    angles = np.linspace(-np.pi, np.pi, steps)
    grid = np.stack(np.meshgrid(*[angles] * len(order)), -1).reshape(-1, len(order))
    return ScipyRotation.from_euler(order, grid).as_matrix()


@pytest.mark.parametrize("order", ORDERS)
def test_brings_an_axis_onto_another_or_as_near_as_possible(order: str) -> None:
    own, reached = unit(), ScipyRotation.from_euler(order, np.random.default_rng(0).uniform(-3, 3, (20, len(order))))
    axis = torch.from_numpy(reached.apply(own.numpy()))
    angles = axis_to_euler(axis, own, order)
    np.testing.assert_allclose(scipys(angles, order).apply(own.numpy()), axis.numpy(), atol=1e-12)
    if len(order) == 3:
        return
    axis, rotated = unit(5), everywhere(order) @ own.numpy()
    found = scipys(axis_to_euler(axis, own, order), order).apply(own.numpy())
    best = (rotated @ axis.numpy().T).max(0)
    assert ((found * axis.numpy()).sum(1) > best - 1e-9).all()


def test_it_returns_the_smaller_second_angle_and_for_three_axes_the_shortest_rotation() -> None:
    axis, own = unit(200), torch.tensor([0.0, 1, 0], dtype=torch.float64)
    assert axis_to_euler(axis, own, "XZ")[:, 1].abs().max() <= np.pi / 2
    for order in ("XYZ", "zxz"):
        angles = scipys(axis_to_euler(axis, own, order), order).magnitude()
        np.testing.assert_allclose(angles, np.arccos(axis[:, 1].numpy()), atol=1e-7)


@pytest.mark.parametrize("order", ["XYZ", "XZX", "XZ", "YZ", "X", "xyz", "zx"])
def test_axes_of_the_frame_and_their_opposites(order: str) -> None:
    axes = torch.cat((torch.eye(3), -torch.eye(3)))
    for own in axes:
        found = (euler_to_matrix(axis_to_euler(axes, own, order), order) @ own * axes).sum(-1)
        reached = (
            torch.ones(6) if len(order) == 3 else torch.from_numpy(everywhere(order) @ own.numpy() @ axes.numpy().T)
        )
        assert (found > reached.amax(0) - 1e-3).all()
    assert axis_to_euler(axes, axes[2], "XZ")[:, 1].abs().max() == 0  # b rotates the axis about itself


def test_is_exact_in_single_precision_near_the_poles() -> None:
    angles = torch.tensor([[0.5, -torch.pi / 2 + 1e-4], [0.5, torch.pi / 2 - 1e-5], [0.5, 1e-6]])
    own = torch.tensor([0.0, 1, 0])
    axis = euler_to_matrix(angles, "XZ") @ own
    torch.testing.assert_close(
        axis_to_euler(axis, own, "XZ"), angles, rtol=0, atol=1e-2
    )  # the axis hardly depends on a there
    assert (euler_to_matrix(axis_to_euler(axis, own, "XZ"), "XZ") @ own - axis).abs().max() < 3e-7


@pytest.mark.parametrize("order", ORDERS)
def test_the_nearest_angles_are_those_that_a_search_finds(order: str) -> None:
    rotations = ScipyRotation.random(20, random_state=0).as_matrix()
    angles = nearest_euler(torch.from_numpy(rotations), order)
    trace = (scipys(angles, order).as_matrix() * rotations).sum((1, 2))
    if len(order) == 3:
        np.testing.assert_allclose(trace, 3)
    else:
        best = (everywhere(order).reshape(-1, 9) @ rotations.reshape(-1, 9).T).max(0)
        assert (trace > best - 1e-6).all()


def test_a_product_is_recovered_from_a_matrix_near_it() -> None:
    angles = torch.rand(100, 2, dtype=torch.float64) * 6 - 3
    for order in ("XZ", "yx"):
        product = euler_to_matrix(angles, order)
        torch.testing.assert_close(nearest_euler(product, order), angles)
        off = torch.from_numpy(ScipyRotation.from_rotvec(0.05 * unit(100).numpy()).as_matrix())
        found = geodesic_distance(euler_to_matrix(nearest_euler(off @ product, order), order), product)
        assert found.max() < 0.051


@pytest.mark.parametrize("order", ["Y", "XZ", "XYZ"])
def test_the_lengths_of_axes_have_no_effect(order: str) -> None:
    axis, own = torch.randn(20, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(axis_to_euler(3 * axis, own / 7, order), axis_to_euler(axis, own, order))


def test_an_axis_with_nan_has_no_angles() -> None:
    axis = torch.tensor([[math.nan, 0.0, 1.0], [1.0, 0.0, 0.0]])
    found = axis_to_euler(axis, torch.tensor([0.0, 0.0, 1.0]), "XYZ")
    assert found[0].isnan().any()
    assert found[1].isfinite().all()
