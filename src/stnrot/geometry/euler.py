"""Angles about coordinate axes as rotation matrices of R^3, and back; how far two rotations are apart.

An order such as `XYZ` names one to three axes, no two neighbours alike. In upper case the axes turn along with the body
(intrinsic), and angles (a, b, c) of `XYZ` are the matrix Rx(a) Ry(b) Rz(c), which multiplies columns; in lower case
they stay where they are (extrinsic), and `xyz` is Rz(c) Ry(b) Rx(a). So does SciPy's `Rotation`. A positive angle turns
counter-clockwise about an axis that points at the eye, in a right-handed frame.
"""

import math
from functools import reduce
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.angles import wrap
from stnrot.geometry.autograd import at_least_float32, full_precision

AXES = "XYZ"
ROUNDS = 12  # of two angles that are made the best for each other
LOCKED = 16  # times the machine's precision: a sine of less says nothing of the angle


def euler_to_matrix(angles: Float[Tensor, "*b A"], order: str = "XYZ") -> Float[Tensor, "*b 3 3"]:
    """Return the product of the rotations about the axes of `order` by `angles` (radians), one for each axis.

    Built from sines and cosines that keep the graph: a rotation by construction, whose gradient reaches the angles.
    It is of float32 at least, under autocast too.

    >>> import torch
    >>> euler_to_matrix(torch.tensor([torch.pi / 2]), "Z").round().int().tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    return _product(_factors(angles, order), order)


def euler_jacobian(angles: Float[Tensor, "*b A"], order: str = "XYZ") -> Float[Tensor, "*b A 3 3"]:
    """Return the derivatives of `euler_to_matrix` by each angle: d Ri(a) / da = Ri(a + pi/2) - e_i e_i^T."""
    factors, slopes = _factors(angles, order), []
    for k, axis in enumerate(axis_numbers(order)):
        slope = _about(axis, at_least_float32(angles[..., k]) + math.pi / 2)
        slope[..., axis, axis] = 0
        slopes.append(_product([*factors[:k], slope, *factors[k + 1 :]], order))
    return torch.stack(slopes, -3)


def matrix_to_euler(matrix: Float[Tensor, "*b 3 3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    r"""Return angles in [-pi, pi] (radians) whose `euler_to_matrix` is the matrix.

    With one or two axes the matrix has to be such a product. With three, every rotation is, in two ways: the second
    angle is taken from [-pi/2, pi/2] or, if the first axis is also the third, from [0, pi], where rounding may make -pi
    of pi. At the ends of that range (gimbal lock) the first and third turn about one line and only their sum or
    difference can be known: the third is then 0, in lower case the first.

    With R = Ri(a) Rj(b) Rk(c) and e = 1 for a cyclic (i, j, k), else -1, `a = atan2(-e R_jk, R_kk)`; then b and c
    are read off `Ri(-a) R = Rj(b) Rk(c)`, whose column k does not know c and whose row j does not know b: so that the
    product is the matrix to rounding, however near to gimbal lock.
    """
    axes, matrix = axis_numbers(order), at_least_float32(matrix)
    if order.islower():
        return matrix_to_euler(matrix, order[::-1].upper()).flip(-1)
    if len(axes) == 1:
        return _angle_of(matrix, axes[0])[..., None]
    if len(axes) == 2:
        return _two_angles(matrix, *axes)
    i, j, k = axes
    other = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    if i == k:
        sine, cosine = matrix[..., j, i], -sign * matrix[..., other, i]
    else:
        sine, cosine = -sign * matrix[..., j, k], matrix[..., k, k]
    locked = torch.maximum(sine.abs(), cosine.abs()) < LOCKED * torch.finfo(matrix.dtype).eps
    # then c = 0, and R e_j = Ri(a) e_j
    sine = torch.where(locked, sign * matrix[..., other, j], sine)
    cosine = torch.where(locked, matrix[..., j, j], cosine)
    a = torch.atan2(sine, cosine)
    with full_precision(matrix):
        rest = _about(i, -a) @ matrix
    return torch.cat((a[..., None], _two_angles(rest, j, k)), -1)


def nearest_euler(matrix: Float[Tensor, "*b 3 3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    """Return angles (radians) whose `euler_to_matrix` is, in Frobenius norm, the nearest to a rotation.

    With two axes that is no formula: each angle in turn is made the best one for the other, from those that would do
    for a product. About the answer each round squares the error, the two turns being at right angles there.
    """
    axes = axis_numbers(order)
    if order.islower():
        return nearest_euler(matrix, order[::-1].upper()).flip(-1)
    if len(axes) != 2:
        return matrix_to_euler(matrix, order)
    i, j = axes
    b = _two_angles(matrix, i, j)[..., 1]
    for _ in range(ROUNDS):
        a = _angle_of(matrix @ _about(j, -b), i)
        b = _angle_of(_about(i, -a) @ matrix, j)
    return torch.stack((a, b), -1)


def axis_to_euler(axis: Float[Tensor, "*b 3"], own: Float[Tensor, "3"], order: str = "XYZ") -> Float[Tensor, "*b A"]:
    r"""Return angles (radians) whose `euler_to_matrix` brings the unit vector `own` onto the unit vector `axis`.

    With one or two axes what cannot be reached is approached as far as can be. With R = Ri(a) Rj(b) the component
    along i is b's alone, `sqrt(1 - own_j^2) cos(b - c)`, c being the b that brings `own` nearest to i. It has two
    solutions, of which the smaller b is taken; a then is the angle about i that is left. With three axes it is the
    shortest rotation of all that bring one onto the other, as angles.

    >>> import torch
    >>> angles = axis_to_euler(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]), "XZ")
    >>> angles.rad2deg().round().tolist()
    [90.0, 0.0]
    """
    axes = axis_numbers(order)
    if order.islower():
        return axis_to_euler(axis, own, order[::-1].upper()).flip(-1)
    if len(axes) == 3:
        return matrix_to_euler(_shortest(own.expand_as(axis), axis), order)
    i, j = axes[0], axes[-1]
    if len(axes) == 1:
        return angle_about(own.expand_as(axis), axis, i)[..., None]
    # the sine from the other components: by 1 - cos^2 it would be rounding where it is small
    across = torch.linalg.vector_norm(torch.stack([axis[..., k] for k in range(3) if k != i], -1), dim=-1)
    sine = ((across - own[j].abs()) * (across + own[j].abs())).clamp(min=0).sqrt()
    turn = torch.atan2(sine, axis[..., i]) * (own[j].abs() < 1)  # about itself nothing turns
    to_first = angle_about(own, torch.eye(3).to(own)[i], j)
    b = torch.stack((wrap(to_first + turn), wrap(to_first - turn)), -1)
    b = b.gather(-1, b.abs().argmin(-1, keepdim=True))[..., 0]
    a = angle_about((_about(j, b) @ own[:, None])[..., 0], axis, i)
    return torch.stack((a, b), -1)


def geodesic_distance(a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Return the angle, in [0, pi], of the rotation a^T b that leads from one rotation to the other.

    By sine and cosine, `atan2(|axial vector|, (trace - 1) / 2)`, which is exact near 0 and near pi. Source: D. Huynh,
    Metrics for 3D rotations, 2009.
    """
    with full_precision(a):
        between = at_least_float32(a).mT @ at_least_float32(b)
    axial = torch.stack([between[..., k, j] - between[..., j, k] for j, k in ((1, 2), (2, 0), (0, 1))], -1) / 2
    trace = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(torch.linalg.vector_norm(axial, dim=-1), (trace - 1) / 2)


def axis_numbers(order: str) -> list[int]:
    """Return 0, 1 or 2 for each letter of an order.

    Raises:
        InputError: if it is none.
    """
    known = isinstance(order, str) and 1 <= len(order) <= 3 and (order.isupper() or order.islower())
    axes = [AXES.find(letter) for letter in order.upper()] if known else []
    if not axes or -1 in axes or any(one == other for one, other in pairwise(axes)):
        raise InputError(
            f"axes {order!r}: expected one to three of X, Y and Z, no two neighbours alike, all upper case (axes that "
            "turn along) or all lower case (axes that stay), such as XYZ"
        )
    return axes


def _factors(angles: Float[Tensor, "*b A"], order: str) -> list[Float[Tensor, "*b 3 3"]]:
    """Return the rotation about each axis of the order."""
    axes = axis_numbers(order)
    if angles.shape[-1:] != (len(axes),):
        raise InputError(f"order={order!r}: expected {len(axes)} angles, got shape {tuple(angles.shape)}")
    return [_about(axis, angle) for axis, angle in zip(axes, at_least_float32(angles).unbind(-1), strict=True)]


def _product(factors: list[Tensor], order: str) -> Float[Tensor, "*b 3 3"]:
    """Return the product of one factor for each axis of the order."""
    with full_precision(factors[0]):
        return reduce(torch.matmul, factors if order.isupper() else factors[::-1])


def _about(axis: int, angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """Return the rotation about one axis."""
    c, s = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rows = ((one, zero, zero), (zero, c, -s), (zero, s, c))  # about X; the others by shifting both dimensions
    order = [(n - axis) % 3 for n in range(3)]
    return torch.stack([rows[p][q] for p in order for q in order], -1).unflatten(-1, (3, 3))


def _angle_of(matrix: Float[Tensor, "*b 3 3"], axis: int) -> Float[Tensor, "*b"]:
    """Return the angle of a rotation about one axis."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    return torch.atan2(matrix[..., k, j] - matrix[..., j, k], matrix[..., j, j] + matrix[..., k, k])


def angle_about(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"], axis: int) -> Float[Tensor, "*b"]:
    """Return the angle about one axis that turns the first vector as near to the second as can be."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    sine = first[..., j] * second[..., k] - first[..., k] * second[..., j]
    return torch.atan2(sine, first[..., j] * second[..., j] + first[..., k] * second[..., k])


def _shortest(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Return the shortest rotation that brings one unit vector onto another, as two reflections.

    The first turns `first` round, the second, along the middle of both, brings that onto `second`.
    """
    middle = first + second
    length = torch.linalg.vector_norm(middle, dim=-1, keepdim=True)
    aside = torch.zeros_like(first).scatter(-1, first.abs().argmin(-1, keepdim=True), 1.0)
    aside = F.normalize(torch.linalg.cross(first, aside), dim=-1)  # for opposites: half a turn about any normal
    middle = torch.where(length > 0, middle / length, aside)
    return _reflection(middle) @ _reflection(first)


def _reflection(normal: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    return torch.eye(3).to(normal) - 2 * normal[..., :, None] * normal[..., None, :]


def _two_angles(matrix: Float[Tensor, "*b 3 3"], i: int, j: int) -> Float[Tensor, "*b 2"]:
    """Return a and b of Ri(a) Rj(b): its column j is that of Ri(a), its row i that of Rj(b)."""
    other = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    a = torch.atan2(sign * matrix[..., other, j], matrix[..., j, j])
    b = torch.atan2(sign * matrix[..., i, other], matrix[..., i, i])
    return torch.stack((a, b), -1)
