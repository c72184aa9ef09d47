"""Angles about coordinate axes that come nearest to a rotation, or that rotate one axis onto another.

With one or two axes not every rotation can be reached. For the orders of the axes see `stnrot.geometry.euler`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked
from stnrot.geometry.angles import wrap
from stnrot.geometry.autograd import at_least_float32, full_precision, same_type
from stnrot.geometry.constants import identity
from stnrot.geometry.euler import (
    Axis,
    axis_numbers,
    axis_rotation,
    axis_rotation_angle,
    matrix_to_euler,
    two_axis_angles,
)

ROUNDS = 12  # of the alternating optimisation of two angles


@checked
def nearest_euler(matrix: Float[Tensor, "*b 3 3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    """Return angles (radians) whose `euler_to_matrix` is the nearest to a rotation, in Frobenius norm.

    For two axes there is no closed formula. The search starts at the angles that would be exact for a product of two
    rotations. It then optimises one angle with the other fixed, and alternates. Near the solution each round squares
    the error, because the two rotations are orthogonal there.
    """
    axes = axis_numbers(order)
    if order.islower():
        return nearest_euler(matrix, order[::-1].upper()).flip(-1)
    if len(axes) != 2:
        return matrix_to_euler(matrix, order)
    i, j = axes
    matrix = at_least_float32(matrix)
    b = two_axis_angles(matrix, i, j)[..., 1]
    with full_precision(matrix):
        for _ in range(ROUNDS):
            a = axis_rotation_angle(matrix @ axis_rotation(j, -b), i)
            b = axis_rotation_angle(axis_rotation(i, -a) @ matrix, j)
    return torch.stack((a, b), -1)


@checked
def axis_to_euler(axis: Float[Tensor, "*b 3"], own: Float[Tensor, "3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    r"""Return angles (radians) whose `euler_to_matrix` rotates the vector `own` to the direction of `axis`.

    The lengths of the vectors do not matter. With one or two axes, some directions cannot be reached; the result then
    brings `own` as near to `axis` as possible. For two axes let R = Ri(a) Rj(b), and let both vectors have length 1.
    The component along i depends on b alone: it is `sqrt(1 - own_j^2) cos(b - c)`,
    where c is the value of b that brings `own` nearest to i. There are two solutions for b, and the one of smaller
    magnitude is returned; a is the remaining angle about i. With three axes the result is the shortest rotation from
    `own` to `axis`, as angles.

    >>> import torch
    >>> angles = axis_to_euler(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]), "XZ")
    >>> angles.rad2deg().round().tolist()
    [90.0, 0.0]
    """
    axes, (axis, own) = axis_numbers(order), (F.normalize(each, dim=-1) for each in same_type(axis, own))
    if order.islower():
        return axis_to_euler(axis, own, order[::-1].upper()).flip(-1)
    if len(axes) == 3:
        return matrix_to_euler(_shortest(own.expand_as(axis), axis), order)
    i, j = axes[0], axes[-1]
    if len(axes) == 1:
        return angle_about(own.expand_as(axis), axis, i)[..., None]
    # the sine is computed from the other components: 1 - cos^2 would be a rounding error where the sine is small
    across = torch.linalg.vector_norm(torch.stack([axis[..., k] for k in range(3) if k != i], -1), dim=-1)
    sine = ((across - own[j].abs()) * (across + own[j].abs())).clamp(min=0).sqrt()
    offset = torch.atan2(sine, axis[..., i]) * (own[j].abs() < 1)  # if own is the axis j, b does not move it
    to_first = angle_about(own, identity(3, own.device, own.dtype)[i], j)
    b = torch.stack((wrap(to_first + offset), wrap(to_first - offset)), -1)
    b = b.gather(-1, b.abs().argmin(-1, keepdim=True))[..., 0]
    with full_precision(own):
        rotated = (axis_rotation(j, b) @ own[:, None])[..., 0]
    a = angle_about(rotated, axis, i)
    return torch.stack((a, b), -1)


@checked
def angle_about(first: Float[Tensor, "*#b 3"], second: Float[Tensor, "*#b 3"], axis: Axis) -> Float[Tensor, "*#b"]:
    """Return the angle (radians) about one axis, 0 to 2, that brings one vector as near to another as possible."""
    first, second = same_type(first, second)
    j, k = (axis + 1) % 3, (axis + 2) % 3
    sine = first[..., j] * second[..., k] - first[..., k] * second[..., j]
    return torch.atan2(sine, first[..., j] * second[..., j] + first[..., k] * second[..., k])


def _shortest(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Return the shortest rotation from one unit vector to another, as the product of two reflections.

    The first reflection maps `first` to `-first`. The second, along the bisector of both vectors, maps `-first` to
    `second`.
    """
    middle = first + second
    length = torch.linalg.vector_norm(middle, dim=-1, keepdim=True)
    normal = torch.zeros_like(first).scatter(-1, first.abs().argmin(-1, keepdim=True), 1.0)
    normal = F.normalize(torch.linalg.cross(first, normal), dim=-1)  # for opposite vectors any normal will do
    middle = torch.where(length == 0, normal, middle / length)
    with full_precision(middle):
        return _reflection(middle) @ _reflection(first)


def _reflection(normal: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    return identity(3, normal.device, normal.dtype) - 2 * normal[..., :, None] * normal[..., None, :]
