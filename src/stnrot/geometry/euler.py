"""Convert angles about coordinate axes to rotation matrices of R^3 and back; measure the angle between two rotations.

An order such as `XYZ` names one to three axes. Two neighbours are never the same axis. Upper case means intrinsic: the
axes rotate with the body, and angles (a, b, c) of `XYZ` give the matrix Rx(a) Ry(b) Rz(c), which multiplies column
vectors. Lower case means extrinsic: the axes stay fixed, and `xyz` gives Rz(c) Ry(b) Rx(a). SciPy's `Rotation` uses the
same convention. A positive angle is counter-clockwise about an axis that points at the viewer, in a right-handed frame.
"""

import math
from functools import reduce
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.annotations import Between
from stnrot.arguments import checked, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, full_precision, same_type

Axis = Annotated[int, Between(0, 2)]

AXES = "XYZ"
LOCKED = 16  # times the machine epsilon: if sine and cosine are both smaller, the angle is undefined (gimbal lock)


@checked
def euler_to_matrix(angles: Float[Tensor, "*b A"], order: str = "XYZ") -> Float[Tensor, "*b 3 3"]:
    """Return the product of the rotations about the axes of `order` by `angles` (radians), one angle for each axis.

    The matrix is built from sines and cosines. So it is a rotation by construction, and the gradient reaches the
    angles. The result is at least in float32, also under autocast.

    Raises:
        InputError: if the order is not valid, or the number of angles does not match it.

    >>> import torch
    >>> euler_to_matrix(torch.tensor([torch.pi / 2]), "Z").round().int().tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    return _product(_factors(angles, order), order)


@checked
def euler_jacobian(angles: Float[Tensor, "*b A"], order: str = "XYZ") -> Float[Tensor, "*b A 3 3"]:
    """Return the derivative of `euler_to_matrix` for each angle, by d Ri(a) / da = Ri(a + pi/2) - e_i e_i^T."""
    factors, slopes = _factors(angles, order), []
    for k, axis in enumerate(axis_numbers(order)):
        slope = axis_rotation(axis, at_least_float32(angles[..., k]) + math.pi / 2)
        slope[..., axis, axis] = 0
        slopes.append(_product([*factors[:k], slope, *factors[k + 1 :]], order))
    return torch.stack(slopes, -3)


@checked
def matrix_to_euler(matrix: Float[Tensor, "*b 3 3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    r"""Return angles (radians, in [-pi, pi]) whose `euler_to_matrix` is the matrix.

    With one or two axes, the matrix has to be a product of such rotations. With three axes, every rotation is such a
    product, in two ways. The result is the one whose second angle is in [-pi/2, pi/2], or in [0, pi] if the first axis
    is also the third; there rounding may return -pi instead of pi. At the ends of that range (gimbal lock) the first
    and the third axis are the same line, and only the sum or the difference of their angles is determined. Then the
    third angle is 0; in lower case, the first.

    Let R = Ri(a) Rj(b) Rk(c), and e = 1 if (i, j, k) is cyclic, else -1. Then `a = atan2(-e R_jk, R_kk)`. The angles b
    and c follow from `Ri(-a) R = Rj(b) Rk(c)`: its column k does not depend on c, and its row j does not depend on b.
    So the product of the result equals the matrix up to rounding, even near gimbal lock.

    >>> angles = torch.tensor([0.1, 0.2, 0.3])
    >>> torch.allclose(matrix_to_euler(euler_to_matrix(angles)), angles)
    True
    """
    axes, matrix = axis_numbers(order), at_least_float32(matrix)
    if order.islower():
        return matrix_to_euler(matrix, order[::-1].upper()).flip(-1)
    if len(axes) == 1:
        return axis_rotation_angle(matrix, axes[0])[..., None]
    if len(axes) == 2:
        return two_axis_angles(matrix, *axes)
    i, j, k = axes
    other = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    if i == k:
        sine, cosine = matrix[..., j, i], -sign * matrix[..., other, i]
    else:
        sine, cosine = -sign * matrix[..., j, k], matrix[..., k, k]
    locked = torch.maximum(sine.abs(), cosine.abs()) < LOCKED * torch.finfo(matrix.dtype).eps
    # in gimbal lock c = 0, and R e_j = Ri(a) e_j
    sine = torch.where(locked, sign * matrix[..., other, j], sine)
    cosine = torch.where(locked, matrix[..., j, j], cosine)
    a = torch.atan2(sine, cosine)
    with full_precision(matrix):
        rest = axis_rotation(i, -a) @ matrix
    return torch.cat((a[..., None], two_axis_angles(rest, j, k)), -1)


@checked
def geodesic_distance(a: Float[Tensor, "*#b 3 3"], b: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b"]:
    """Return the angle (radians, in [0, pi]) of the rotation a^T b between two rotations. The batches are broadcast.

    It is computed from sine and cosine, `atan2(|axial vector|, (trace - 1) / 2)`, which is exact near 0 and near pi.
    Source: D. Huynh, Metrics for 3D rotations, 2009.

    >>> round(geodesic_distance(torch.eye(3), euler_to_matrix(torch.tensor([0.5]), "Z")).item(), 4)
    0.5
    """
    a, b = same_type(a, b)
    with full_precision(a):
        between = a.mT @ b
    axial = torch.stack([between[..., k, j] - between[..., j, k] for j, k in ((1, 2), (2, 0), (0, 1))], -1) / 2
    trace = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(torch.linalg.vector_norm(axial, dim=-1), (trace - 1) / 2)


def axis_numbers(order: str, name: str = "order") -> list[int]:
    """Return 0, 1 or 2 for each letter of an order.

    Args:
        order: names one to three axes.
        name: of the argument that holds the order; it begins the message.

    Raises:
        InputError: if the order is not valid.
    """
    known = isinstance(order, str) and 1 <= len(order) <= 3 and (order.isupper() or order.islower())
    axes = [AXES.find(letter) for letter in order.upper()] if known else []
    if not axes or -1 in axes or any(one == other for one, other in pairwise(axes)):
        raise InputError(
            f"{name}={order!r}: expected one to three of X, Y and Z, no axis twice in a row, all in upper case (axes "
            "rotate with the body) or all in lower case (axes stay fixed), such as XYZ"
        )
    return axes


def _factors(angles: Float[Tensor, "*b A"], order: str) -> list[Float[Tensor, "*b 3 3"]]:
    """Return one rotation matrix for each axis of the order."""
    axes = axis_numbers(order)
    if angles.shape[-1:] != (len(axes),):
        raise InputError(f"angles: expected {len(axes)}, one for each axis of order={order!r}, got {described(angles)}")
    return [axis_rotation(axis, angle) for axis, angle in zip(axes, angles.unbind(-1), strict=True)]


def _product(factors: list[Tensor], order: str) -> Float[Tensor, "*b 3 3"]:
    """Multiply one factor for each axis of the order."""
    with full_precision(factors[0]):
        return reduce(torch.matmul, factors if order.isupper() else factors[::-1])


@checked
def axis_rotation(axis: Axis, angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """Return the rotation about one axis, 0 to 2, by an angle in radians. The result is at least in float32."""
    angle = at_least_float32(angle)
    c, s = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rows = ((one, zero, zero), (zero, c, -s), (zero, s, c))  # about X; for Y and Z, shift rows and columns
    order = [(n - axis) % 3 for n in range(3)]
    return torch.stack([rows[p][q] for p in order for q in order], -1).unflatten(-1, (3, 3))


@checked
def axis_rotation_angle(matrix: Float[Tensor, "*b 3 3"], axis: Axis) -> Float[Tensor, "*b"]:
    """Return the angle (radians) of a rotation about one axis, 0 to 2. The result is at least in float32."""
    matrix = at_least_float32(matrix)
    j, k = (axis + 1) % 3, (axis + 2) % 3
    return torch.atan2(matrix[..., k, j] - matrix[..., j, k], matrix[..., j, j] + matrix[..., k, k])


@checked
def two_axis_angles(matrix: Float[Tensor, "*b 3 3"], i: Axis, j: Axis) -> Float[Tensor, "*b 2"]:
    """Return a and b of Ri(a) Rj(b): its column j is column j of Ri(a), and its row i is row i of Rj(b).

    Raises:
        InputError: if the axes i and j, 0 to 2, are the same.
    """
    if i == j:
        raise InputError(f"j: expected another axis than i = {i}, got {j}")
    matrix = at_least_float32(matrix)
    other = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    a = torch.atan2(sign * matrix[..., other, j], matrix[..., j, j])
    b = torch.atan2(sign * matrix[..., i, other], matrix[..., i, i])
    return torch.stack((a, b), -1)
