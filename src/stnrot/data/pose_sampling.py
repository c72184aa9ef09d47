"""Map uniform numbers to Euler angles whose rotations are as uniform as their axes allow."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.angles import wrap
from stnrot.geometry.constants import identity
from stnrot.geometry.euler import axis_numbers
from stnrot.geometry.nearest_euler import angle_about


def uniform_angles(
    numbers: Float[Tensor, "B axes"], order: str, own_axis: Float[Tensor, "3"] | None
) -> Float[Tensor, "B axes"]:
    r"""Return angles in [-pi, pi] (radians) about the axes of `order` for numbers uniform in (0, 1).

    Three axes: the rotation follows the Haar measure. The sine of the second angle is uniform or, if the first axis is
    also the third, its cosine.

    Two axes, R = Ri(a) Rj(b), and a solid of revolution whose axis has no component along j: the axis can reach every
    direction, and its direction is uniform on the sphere. The component along i is then uniform (Archimedes), and the
    two angles b that give it are equally likely.

    In all other cases the angles are uniform.

    Args:
        numbers: uniform in (0, 1), one for each axis.
        order: axes of rotation, as in `euler_to_matrix`.
        own_axis: axis of a solid of revolution; None for any other solid.
    """
    axes = axis_numbers(order)
    if order.islower():
        return uniform_angles(numbers.flip(-1), order[::-1].upper(), own_axis).flip(-1)
    angles = list((math.pi * (2 * numbers - 1)).unbind(-1))
    if len(axes) == 3:
        height = 2 * numbers[:, 1] - 1
        angles[1] = height.acos() if axes[0] == axes[2] else height.asin()
    elif len(axes) == 2 and own_axis is not None and own_axis[axes[1]] == 0:
        i, j = axes
        first = identity(3, own_axis.device, own_axis.dtype)[i]
        onto = angle_about(own_axis, first, j)  # the component along i goes with cos(b - onto)
        side = 2 * numbers[:, 1] - 1
        angles[1] = wrap(onto + side.sign() * (2 * side.abs() - 1).acos())
    return torch.stack(angles, -1)
