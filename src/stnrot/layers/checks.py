"""Check what the layers are given, and build the rotation that a `Rotation` starts with."""

import operator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.annotations import REAL, is_dense
from stnrot.arguments import described
from stnrot.errors import InputError
from stnrot.geometry.rotations import det_sign, project_rotation, random_rotation, rotation_defect

TOLERANCE = 1e-4  # largest entry of R^T R - I in a matrix that is accepted as a rotation to start with


def checked_dim(dim: Any, name: str = "dim") -> int:
    """Return a dimension, a whole number of at least 2."""
    expected = "a whole number of at least 2"
    dim = _whole(name, dim, expected)
    if dim < 2:
        raise InputError(f"{name}={dim}: expected {expected}")
    return dim


def checked_reflections(reflections: Any, dim: int, init: str | Tensor) -> int:
    """Return the number of reflections; for None, the number that reaches every rotation."""
    most = dim - dim % 2
    if reflections is None:
        return most
    expected = f"an even number from 2 to {most}, for det +1 at dim={dim}"
    reflections = _whole("reflections", reflections, expected)
    if reflections % 2 or not 2 <= reflections <= most:
        raise InputError(f"reflections={reflections}: expected {expected}")
    if reflections < most and init != "identity":
        raise InputError(
            f"reflections={reflections}, but this init needs {most}: expected init='identity'; set it, or leave "
            "reflections out"
        )
    return reflections


def check_points(z: Any, dim: int, device: torch.device) -> None:
    """Raise InputError unless z is a dense tensor [*n, dim] of real numbers on this device."""
    if torch.compiler.is_compiling() or (
        is_dense(z) and z.dtype in REAL and z.ndim > 0 and z.shape[-1] == dim and z.device == device
    ):
        return
    place = f" on {z.device}" if isinstance(z, Tensor) and z.device != device else ""
    raise InputError(f"z: expected a dense tensor [*n, {dim}] of real numbers on {device}, got {described(z)}{place}")


def check_center(center: Tensor | None, dim: int) -> None:
    """Raise InputError unless the centre is None or a point of R^d."""
    if center is not None and not (_is_real(center, dim) and center.isfinite().all()):
        raise InputError(f"center: expected a tensor of {dim} finite real numbers, got {described(center)}")


def start_rotation(init: str | Tensor, dim: int) -> Float[Tensor, "d d"]:
    """Return the rotation to start with, in float64."""
    if isinstance(init, str):
        if init not in ("identity", "haar"):
            raise InputError(f"init={init!r}: expected identity, haar, or a rotation as a tensor")
        return torch.eye(dim, dtype=torch.float64) if init == "identity" else random_rotation(dim).contiguous()
    if not _is_real(init, dim, dim):
        raise InputError(f"init: expected identity, haar or a real matrix of {dim} x {dim}, got {described(init)}")
    start = init.detach().double().cpu()
    check_rotation("init", start)
    return project_rotation(start).contiguous()


def check_rotation(name: str, matrix: Any) -> None:
    """Raise InputError unless a matrix is a rotation."""
    if not (isinstance(matrix, Tensor) and matrix.ndim == 2 and _is_real(matrix, len(matrix), len(matrix))):
        raise InputError(f"{name}: expected a rotation [d, d], got {described(matrix)}")
    defect = rotation_defect(matrix).item()
    if not defect <= TOLERANCE:
        raise InputError(
            f"{name}: expected a rotation, got max |R^T R - I| = {defect:.3g}; "
            "stnrot.geometry.project_rotation gives the nearest rotation"
        )
    if det_sign(matrix) < 0:
        raise InputError(f"{name}: expected a rotation, got a reflection, det = -1; change the sign of one row")


def _whole(name: str, value: Any, expected: str) -> int:
    """Return a whole number; NumPy integers are accepted."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{name}={value!r}: expected {expected}")


def _is_real(value: Any, *shape: int) -> bool:
    return is_dense(value) and not value.is_meta and value.dtype in REAL and value.shape == shape
