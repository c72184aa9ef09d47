"""Represent the pose of a solid by what an image shows: the rotation, or only the axis of a solid of revolution.

Both classes represent a pose as a 3 x 3 matrix. The matrix is the same for poses that look the same, and it changes
continuously with the image. So a network can learn it. Angles do not have this property: no continuous function maps
every rotation to three or four numbers that determine it. Source: Y. Zhou et al., On the continuity of rotation
representations in neural networks, 2019.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, full_precision, same_type, without_nan
from stnrot.geometry.euler import geodesic_distance
from stnrot.geometry.nearest_euler import axis_to_euler, nearest_euler
from stnrot.geometry.rotations import project_rotation

SYMMETRIC = (0, 1, 2, 1, 3, 4, 2, 4, 5)  # index, among six numbers, of each entry of a symmetric 3 x 3 matrix


class Asymmetric:
    """A solid that looks different in every pose. The matrix is the rotation itself.

    Source: J. Levinson et al., An analysis of SVD for deep rotation estimation, 2020.

    Attributes:
        numbers: how many numbers a network predicts.
        opposites: whether opposite directions are the same pose.
    """

    numbers = 9
    opposites = False

    @checked
    def matrix(self, numbers: Float[Tensor, "*b 9"]) -> Float[Tensor, "*b 3 3"]:
        """Arrange the numbers that a network predicts as a matrix."""
        return numbers.unflatten(-1, (3, 3))

    @checked
    def encode(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """Return the matrix that represents the pose."""
        return rotation

    @checked
    def euler(self, matrix: Float[Tensor, "*b 3 3"], order: str) -> Float[Tensor, "*b A"]:
        """Return angles (radians) about the axes of `order` whose rotation is the nearest to a matrix."""
        return nearest_euler(project_rotation(matrix), order)

    @checked
    def distance(self, a: Float[Tensor, "*#b 3 3"], b: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b"]:
        """Return the angle (radians) between two rotations."""
        return geodesic_distance(a, b)

    @checked
    def direction(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
        """Return the unit vector from the solid to the camera, in the frame of the solid."""
        return -rotation[..., 2, :]


class Revolution:
    """A solid of revolution that looks the same when its axis is reversed. The matrix is n n^T, where n is the axis.

    Args:
        own_axis: the axis of the solid before it is rotated, of any length.

    Raises:
        InputError: if the axis is zero, infinite or NaN.

    Attributes:
        numbers: how many numbers a network predicts.
        opposites: whether opposite directions are the same pose.

    >>> solid = Revolution(torch.tensor([0.0, 1.0, 0.0]))
    >>> half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    >>> solid.distance(half_turn, torch.eye(3)).item()
    0.0
    """

    numbers = 6
    opposites = True

    @checked
    def __init__(self, own_axis: Float[Tensor, "3"]) -> None:
        own_axis = at_least_float32(own_axis)
        length = torch.linalg.vector_norm(own_axis)
        if not own_axis.is_meta and not 0 < length.item() < math.inf:
            raise InputError(f"own_axis: expected a vector of finite length other than 0, got {own_axis.tolist()}")
        self.own_axis = own_axis / length

    @checked
    def matrix(self, numbers: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
        """Arrange the numbers that a network predicts as a symmetric matrix."""
        return numbers[..., SYMMETRIC].unflatten(-1, (3, 3))

    @checked
    def encode(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """Return the matrix that represents the pose."""
        axis = self.direction(rotation)
        return axis[..., :, None] * axis[..., None, :]

    @checked
    def euler(self, matrix: Float[Tensor, "*b 3 3"], order: str) -> Float[Tensor, "*b A"]:
        """Return angles (radians) about the axes of `order` that rotate the axis of the solid onto that of the matrix.

        The axis of a matrix is the eigenvector n of the largest eigenvalue. Of n and -n, the one nearer to the axis
        before the rotation is taken.
        """
        matrix, poison = without_nan(at_least_float32(matrix))
        axis = torch.linalg.eigh(matrix).eigenvectors[..., -1] + poison[..., 0]
        own = self.own_axis.to(axis)
        axis = torch.where((axis @ own < 0)[..., None], -axis, axis)
        return axis_to_euler(axis, own, order)

    @checked
    def distance(self, a: Float[Tensor, "*#b 3 3"], b: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b"]:
        """Return the angle (radians, at most pi/2) between the axes of two rotations.

        It is computed from sine and cosine, `atan2(|m x n|, |m . n|)`, which is exact near 0, where the cosine rounds
        to 1.
        """
        m, n = torch.broadcast_tensors(*same_type(self.direction(a), self.direction(b)))
        cross = torch.linalg.vector_norm(torch.linalg.cross(m, n), dim=-1)
        return torch.atan2(cross, (m * n).sum(-1).abs())

    @checked
    def direction(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
        """Return the axis after the rotation, a unit vector."""
        rotation = at_least_float32(rotation)
        with full_precision(rotation):
            return rotation @ self.own_axis.to(rotation)


Symmetry = Asymmetric | Revolution


@checked
def symmetry_of(own_axis: Sequence[float] | None) -> Symmetry:
    """Return `Revolution` for a solid with an axis of revolution (three numbers), and `Asymmetric` for None."""
    if own_axis is None:
        return Asymmetric()
    if len(own_axis) != 3:
        raise InputError(f"own_axis: expected three numbers or None, got {described(own_axis)}")
    return Revolution(torch.tensor([float(each) for each in own_axis]))
