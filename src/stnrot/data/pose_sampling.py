"""Uniform numbers as Euler angles whose poses are as uniform as the axes allow."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.angles import wrap
from stnrot.geometry.euler import angle_about, axis_numbers


def uniform_angles(
    numbers: Float[Tensor, "B axes"], order: str, own_axis: Float[Tensor, "3"] | None
) -> Float[Tensor, "B axes"]:
    r"""Return angles in [-pi, pi] (radians) about the axes of `order` for numbers uniform in (0, 1).

    About three axes they make a rotation of the Haar measure, whose second angle has a uniform sine or, if the first
    axis is also the third, cosine. About two, R = Ri(a) Rj(b), those that can bring the axis of a solid of revolution
    anywhere, its component along j being 0, bring it uniformly onto the sphere: its component along i is then uniform
    (Archimedes), and both angles that give it are equally likely. All other angles are uniform.
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
        onto = angle_about(own_axis, torch.eye(3).to(own_axis)[i], j)  # from there on the cosine is that component
        side = 2 * numbers[:, 1] - 1
        angles[1] = wrap(onto + side.sign() * (2 * side.abs() - 1).acos())
    return torch.stack(angles, -1)
