"""Rotation matrices: compared with SciPy, float64 and finite differences."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation as ScipyRotation
from torch.autograd import gradcheck, gradgradcheck

from stnrot.geometry import (
    cayley,
    exponential,
    householder_rotation,
    newton_schulz,
    planar_rotation,
    project_rotation,
    qr_rotation,
    random_rotation,
    rotation_defect,
    skew,
)
from stnrot.geometry.axis_matching import axis_angles


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_exponential_is_scipys() -> None:
    a = skew(draw(4, 7, 7))
    expected = np.stack([scipy.linalg.expm(each) for each in a.numpy()])
    np.testing.assert_allclose(exponential(a).numpy(), expected, atol=1e-13)
    vector = draw(5, 3)
    x, y, z = vector.unbind(-1)
    cross = torch.zeros(5, 3, 3, dtype=torch.float64)
    cross[:, 1, 0], cross[:, 2, 0], cross[:, 2, 1] = z, -y, x
    np.testing.assert_allclose(
        exponential(skew(cross)).numpy(), ScipyRotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-13
    )


def test_exponential_is_a_rotation_where_torchs_is_not() -> None:
    a = skew(torch.randn(128, 128, generator=torch.Generator().manual_seed(0)))
    assert rotation_defect(torch.linalg.matrix_exp(a)) > 2e-6
    assert rotation_defect(exponential(a)) < 2e-6


def test_cayley_rotates_by_twice_the_arc_tangent() -> None:
    a = torch.tensor([[0, 0], [1.3, 0]], dtype=torch.float64)
    angle = torch.tensor(2 * math.atan(1.3 / 2), dtype=torch.float64)
    torch.testing.assert_close(cayley(skew(a)), planar_rotation(angle))
    assert rotation_defect(cayley(skew(draw(5, 9, 9)))).max() < 1e-13


def test_planar_rotation_is_scipys() -> None:
    angle = draw(6)
    expected = ScipyRotation.from_rotvec(np.outer(angle.numpy(), [0, 0, 1])).as_matrix()[:, :2, :2]
    np.testing.assert_allclose(planar_rotation(angle).numpy(), expected, atol=1e-15)


def test_qr_is_gram_schmidt_with_det_one() -> None:
    w = draw(20, 6, 6)
    q = qr_rotation(w)
    torch.testing.assert_close(torch.linalg.det(q), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(q[..., 0], w[..., 0] / w[..., 0].norm(dim=-1, keepdim=True))
    triangle = q[..., :5].mT @ w[..., :5]
    torch.testing.assert_close(triangle, triangle.triu(), rtol=0, atol=1e-13)
    assert (triangle.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("formula", [lambda x: cayley(skew(x)), lambda x: exponential(skew(x)), qr_rotation])
def test_gradients_are_those_of_finite_differences(formula) -> None:
    x = draw(2, 4, 4).requires_grad_()
    gradcheck(formula, (x,))
    gradgradcheck(formula, (x,))


def test_nearest_rotation_is_scipys() -> None:
    matrix, points = draw(8, 3, 3), draw(50, 3)
    found = project_rotation(matrix)
    for each, rotation in zip(matrix, found, strict=True):
        # the rotation that best aligns the axes, weighted by a matrix, with its columns
        best, _ = ScipyRotation.align_vectors(each.T.numpy(), np.eye(3))
        np.testing.assert_allclose(rotation.numpy(), best.as_matrix(), atol=1e-12)
    rotated = points @ found[0].T
    assert torch.linalg.norm(rotated) == pytest.approx(float(torch.linalg.norm(points)))


def test_newton_and_schulz_find_the_polar_factor() -> None:
    for dim in (2, 5, 40):
        rotation = random_rotation(dim)
        for size in (0.0, 1e-6, 0.02, 0.3):
            updated = rotation + size * draw(dim, dim) / dim**0.5
            expected, _ = scipy.linalg.polar(updated.numpy())
            np.testing.assert_allclose(newton_schulz(updated).numpy(), expected, rtol=0, atol=1e-12)
    for factor in (0.01, 0.5, 1.7, 1.9, 2.5, 1e3):  # above sqrt(3) the steps alone do not converge
        torch.testing.assert_close(newton_schulz(factor * rotation), rotation)
    torch.testing.assert_close(torch.linalg.det(newton_schulz(-torch.eye(3))), torch.tensor(1.0))  # of a reflection
    assert rotation_defect(newton_schulz(1e3 * torch.randn(5, 5))) < 1e-6
    found = newton_schulz(rotation.float() + 1e-3)
    assert torch.equal(newton_schulz(found), found)
    assert newton_schulz(torch.full((3, 3), torch.nan)).isnan().all()


def test_random_rotations_have_haars_moments() -> None:
    """For det 1 and d = 5: E R = 0, E R_ij^2 = 1/d, E R_ij^4 = 3/(d (d + 2)), E tr^2 = 1, E R_ij R_kl = 0."""
    torch.manual_seed(0)
    draws = random_rotation(5, 20_000)
    assert rotation_defect(draws).max() < 1e-13
    torch.testing.assert_close(torch.linalg.det(draws), torch.ones(20_000, dtype=torch.float64))
    assert draws.mean(0).abs().max() < 0.015
    assert (draws.square().mean(0) - 0.2).abs().max() < 0.01
    assert (draws.pow(4).mean(0) - 3 / 35).abs().max() < 0.01
    trace = draws.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs(trace.square().mean() - 1) < 0.05
    products = draws.flatten(1).T @ draws.flatten(1) / len(draws)
    assert (products - torch.eye(25) / 5).abs().max() < 0.015


def test_defect_is_the_largest_entry() -> None:
    matrix = torch.eye(3)
    matrix[0, 1] = 0.1
    assert rotation_defect(matrix) == pytest.approx(0.1, rel=1e-6)
    assert rotation_defect(torch.stack((torch.eye(3), 2 * torch.eye(3)))).tolist() == [0, 3]


def test_axis_angles_ignore_signed_permutations() -> None:
    angles = torch.tensor([1e-7, 0.02, 0.3], dtype=torch.float64)  # in three planes: each angle occurs twice
    rotation = torch.block_diag(*planar_rotation(angles))
    shuffled = rotation[[3, 1, 0, 5, 4, 2]] * torch.tensor([[1.0], [-1], [1], [-1], [-1], [1]])
    torch.testing.assert_close(axis_angles(shuffled), angles.repeat_interleave(2), rtol=1e-7, atol=0)
    torch.testing.assert_close(axis_angles(3 * shuffled), angles.repeat_interleave(2), rtol=1e-7, atol=0)
    assert axis_angles(torch.eye(4).roll(1, 0)).max() == 0


@pytest.mark.parametrize(
    "function", [lambda x: cayley(skew(x)), lambda x: exponential(skew(x)), qr_rotation, householder_rotation]
)
def test_predicted_parameters_of_sixteen_bits_give_rotations(function) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        predicted = torch.nn.Linear(5, 36)(torch.randn(4, 5)).view(4, 6, 6)
        assert predicted.dtype == torch.bfloat16
        rotation = function(predicted)
        rotation.square().sum().backward()
    assert rotation_defect(rotation).max() < 1e-5


def test_a_matrix_with_nan_affects_no_other_of_its_batch() -> None:
    matrix = torch.randn(3, 4, 4)
    expected = project_rotation(matrix)
    matrix[1, 2, 3] = math.nan
    found = project_rotation(matrix)
    assert found[1].isnan().all()
    assert torch.equal(found[::2], expected[::2])
