"""Poses that differ by a half turn of the solid about its own axes. They look nearly the same in a reduced image."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry.constants import constant
from stnrot.geometry.euler import euler_to_matrix, matrix_to_euler

SAME_POSE = math.radians(3)  # poses that differ by less are one


@constant
def half_turn_matrices(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "4 3 3"]:
    """Return the identity and the half turns about each axis."""
    signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    return torch.tensor(signs, device=device, dtype=dtype).diag_embed()


def is_same(
    a: Float[Tensor, "B J 3 3"], b: Float[Tensor, "B K 3 3"], rotations: Float[Tensor, "S 3 3"], tolerance: float
) -> Bool[Tensor, "B J K"]:
    """Return whether b is within an angle of a, or of a after one of the rotations about the solid's own axes."""
    trace = torch.einsum("bjsxy,bkxy->bjks", a[:, :, None] @ rotations, b).amax(-1)
    return trace > 1 + 2 * math.cos(tolerance)


def is_repeated(matrix: Float[Tensor, "B K 3 3"], rotations: Float[Tensor, "S 3 3"]) -> Bool[Tensor, "B K"]:
    """Return whether an earlier pose is the same, or the same after one of the rotations."""
    return is_same(matrix, matrix, rotations, SAME_POSE).triu(1).any(1)


def with_half_turns(angles: Float[Tensor, "B K A"], axes: str, count: int) -> Float[Tensor, "B 4*{count} A"]:
    """Return the best `count` poses and their half turns about the solid's own axes.

    Poses that are a half turn of a better one come last. A half turn that the axes cannot express is replaced by the
    pose itself.
    """
    matrix, half_turns = euler_to_matrix(angles, axes), half_turn_matrices(angles.device, angles.dtype)
    best = is_repeated(matrix, half_turns).int().argsort(dim=1, stable=True)[:, :count, None]
    angles = angles.gather(1, best.expand(-1, -1, angles.shape[2]))
    rotated_matrix = matrix.gather(1, best[..., None].expand(-1, -1, 3, 3))[:, :, None] @ half_turns
    rotated = matrix_to_euler(rotated_matrix, axes)
    expressed = (euler_to_matrix(rotated, axes) - rotated_matrix).abs().amax((-2, -1)) < 1e-3
    return torch.where(expressed[..., None], rotated, angles[:, :, None]).flatten(1, 2)
