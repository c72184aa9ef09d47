"""What a picture can tell of the rotation of a solid: all of it, or of a solid of revolution no more than its axis.

Both kinds write a rotation as a 3 x 3 matrix that is the same for poses that look the same and moves without a jump
where the picture does, so that a network can learn it by least squares: of fewer than five numbers a rotation cannot be
a continuous function, nor of two an axis. See Y. Zhou et al., On the continuity of rotation representations in neural
networks, 2019.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.euler import axis_to_euler, geodesic_distance, nearest_euler
from stnrot.geometry.rotations import project_rotation

SYMMETRIC = (0, 1, 2, 1, 3, 4, 2, 4, 5)  # the number, of six, that stands in each place of a symmetric matrix


class Asymmetric:
    """A solid that looks different in every pose: the matrix is the rotation itself.

    Source: J. Levinson et al., An analysis of SVD for deep rotation estimation, 2020.
    """

    numbers = 9
    opposites = False

    def matrix(self, numbers: Float[Tensor, "*b 9"]) -> Float[Tensor, "*b 3 3"]:
        """Arrange what a network predicts."""
        return numbers.unflatten(-1, (3, 3))

    def seen(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """Return what a picture tells of a rotation."""
        return rotation

    def euler(self, matrix: Float[Tensor, "*b 3 3"], order: str) -> Float[Tensor, "*b A"]:
        """Return angles about the axes of `order` (radians) whose rotation is the nearest to a matrix."""
        return nearest_euler(project_rotation(matrix), order)

    def distance(self, a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
        """Return the angle (radians) between two rotations, so far as it can be seen."""
        return geodesic_distance(a, b)

    def direction(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
        """Return the unit vector that a rotation is shown as: where, in the solid's frame, the camera looks from."""
        return -rotation[..., 2, :]


class Revolution:
    """A solid of revolution that looks the same when it is turned round: the matrix is n n^T, n being its axis.

    Args:
        own_axis: the solid's axis before it is turned.
    """

    numbers = 6
    opposites = True

    def __init__(self, own_axis: Float[Tensor, "3"]) -> None:
        self.own_axis = own_axis / torch.linalg.vector_norm(own_axis)

    def matrix(self, numbers: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
        """Arrange what a network predicts."""
        return numbers[..., SYMMETRIC].unflatten(-1, (3, 3))

    def seen(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """Return what a picture tells of a rotation."""
        axis = self.direction(rotation)
        return axis[..., :, None] * axis[..., None, :]

    def euler(self, matrix: Float[Tensor, "*b 3 3"], order: str) -> Float[Tensor, "*b A"]:
        """Return angles about the axes of `order` (radians) that bring the solid's axis onto that of a matrix.

        The axis is the eigenvector of the largest eigenvalue, n and not -n if n is the nearer to where it was.
        """
        axis = torch.linalg.eigh(matrix).eigenvectors[..., -1]
        own = self.own_axis.to(axis)
        axis = torch.where((axis @ own < 0)[..., None], -axis, axis)
        return axis_to_euler(axis, own, order)

    def distance(self, a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
        """Return the angle (radians, at most pi/2) between the axes of two rotations.

        By sine and cosine, `atan2(|m x n|, |m . n|)`, which is exact near 0, where the cosine rounds to 1.
        """
        m, n = self.direction(a), self.direction(b)
        cross = torch.linalg.vector_norm(torch.linalg.cross(m, n), dim=-1)
        return torch.atan2(cross, (m * n).sum(-1).abs())

    def direction(self, rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
        """Return the unit vector that a rotation is shown as: where it brings the axis."""
        return rotation @ self.own_axis.to(rotation)


Symmetry = Asymmetric | Revolution


def symmetry_of(own_axis: Sequence[float] | None) -> Symmetry:
    """Return the kind of a solid by its axis of revolution, None for one that has none."""
    return Asymmetric() if own_axis is None else Revolution(torch.tensor(list(own_axis)))
