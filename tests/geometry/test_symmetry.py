"""The matrix of a pose: it is the same for poses that look the same, and it determines the pose up to these."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from stnrot.errors import InputError
from stnrot.geometry import random_rotation
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.symmetry import Asymmetric, Revolution, Symmetry, symmetry_of

OWN = [0.6, 0.0, -0.8]


def spun(angle: float) -> torch.Tensor:
    return torch.from_numpy(ScipyRotation.from_rotvec(angle * np.array(OWN)).as_matrix())


def test_a_solid_of_revolution_is_represented_by_its_axis_up_to_the_sign() -> None:
    symmetry, rotation = symmetry_of([2 * x for x in OWN]), random_rotation(3, 50)
    matrix = symmetry.encode(rotation)
    axis = rotation @ torch.tensor(OWN, dtype=torch.float64)
    torch.testing.assert_close(matrix @ axis[..., None], axis[..., None])
    torch.testing.assert_close(matrix.diagonal(dim1=1, dim2=2).sum(1), torch.ones(50, dtype=torch.float64))
    over = torch.from_numpy(
        ScipyRotation.from_rotvec([0, math.pi, 0]).as_matrix()
    )  # about a normal of the axis: upside down
    for alike in (rotation @ spun(1.0), rotation @ over, rotation @ over @ spun(-2.0)):
        torch.testing.assert_close(symmetry.encode(alike), matrix)
        assert symmetry.distance(alike, rotation).max() < 1e-7


@pytest.mark.parametrize("symmetry", [Asymmetric(), Revolution(torch.tensor(OWN))])
@pytest.mark.parametrize("order", ["XYZ", "zxz"])
def test_a_pose_is_recovered(symmetry: Symmetry, order: str) -> None:
    rotation = random_rotation(3, 50)
    noise = 1e-3 * torch.randn(50, 3, 3, dtype=torch.float64)
    found = euler_to_matrix(symmetry.euler(symmetry.encode(rotation) + noise + noise.mT, order), order)
    assert symmetry.distance(found, rotation).max() < 0.01
    exact = euler_to_matrix(symmetry.euler(symmetry.encode(rotation), order), order)
    assert symmetry.distance(exact, rotation).max() < 1e-7


def test_distances_are_exact_where_a_cosine_rounds_to_one() -> None:
    about = torch.from_numpy(ScipyRotation.random(1, random_state=0).as_matrix())[0].float()
    for size in (1e-5, 0.3, math.pi / 2 - 1e-3):
        rotation = torch.from_numpy(
            ScipyRotation.from_rotvec([0, size, 0]).as_matrix()
        ).float()  # about an axis orthogonal to OWN
        for symmetry in (Asymmetric(), Revolution(torch.tensor(OWN))):
            assert symmetry.distance(about @ rotation, about) == pytest.approx(size, rel=0.02 if size < 1e-3 else 1e-5)


def test_predicted_numbers_are_a_matrix() -> None:
    numbers = torch.arange(9.0)
    assert Asymmetric().matrix(numbers[None])[0].flatten().tolist() == numbers.tolist()
    symmetric = Revolution(torch.tensor(OWN)).matrix(numbers[None, :6])
    assert symmetric.tolist() == [[[0, 1, 2], [1, 3, 4], [2, 4, 5]]]


def test_direction_to_the_camera() -> None:
    """A rotation by 90 degrees about x moves y to z, so the camera, at -z, is on the side -y of the solid."""
    quarter = euler_to_matrix(torch.tensor([[math.pi / 2]]), "X")
    torch.testing.assert_close(Asymmetric().direction(quarter), torch.tensor([[0.0, -1, 0]]), rtol=0, atol=1e-6)
    found = symmetry_of([0.0, 1, 0]).direction(quarter)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0, 1]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [[0.0, 0.0, 0.0], [1.0, 2.0], [math.nan, 0.0, 1.0]])
def test_an_axis_without_a_direction_is_refused(axis: list[float]) -> None:
    with pytest.raises(InputError, match="own_axis: expected"):
        symmetry_of(axis)


def test_an_axis_of_whole_numbers() -> None:
    assert symmetry_of([0, 3, 0]).own_axis.tolist() == [0.0, 1.0, 0.0]
