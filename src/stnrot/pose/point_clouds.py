"""Solids as sets of points: a torus, or the points of a file."""

import hashlib
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError, needs_extra
from stnrot.geometry.euler import AXES
from stnrot.geometry.splat import Camera


def torus(
    count: int = 1000, radius: float = 0.5, tube: float = 0.2, generator: torch.Generator | None = None
) -> Float[Tensor, "{count} 3"]:
    """Sample points of a torus, uniformly in its two angles. Its axis is y.

    Without a generator the points are always the same.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    around, about = 2 * math.pi * torch.rand(2, count, generator=generator)
    distance = radius + tube * about.cos()
    return torch.stack((distance * around.cos(), tube * about.sin(), distance * around.sin()), -1)


def read_points(source: str | Path) -> Float[Tensor, "N 3"]:
    """Return the points of `torus` or of a file.

    Of a .ply or .obj all vertices are read, of a .npy the rows, of a .xyz the first three columns. A mesh with few
    vertices is rendered as few dots: sample its surface first, with `trimesh.sample.sample_surface_even`.

    Raises:
        InputError: names the file that cannot be read or has no points.
    """
    if str(source) == "torus":
        return torus()
    path = Path(source)
    if path.suffix.lower() not in READERS:
        raise InputError(f"points={source}: expected torus, or a file that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"points={source}: there is no such file; give torus or the path of a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns about a file without numbers
            points = READERS[path.suffix.lower()](path).astype(np.float32, casting="same_kind")
    except InputError:
        raise
    except Exception as error:  # mesh readers raise almost anything on broken files
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read the points of {path}: {reason}; expected a whole {path.suffix} file") from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"{path} holds an array of shape {points.shape}: expected N x 3 finite numbers, N at least 1")
    return torch.from_numpy(points)


def fingerprint(points: Float[Tensor, "N 3"]) -> str:
    """Return a short hash of a point set."""
    return hashlib.sha256(points.float().cpu().numpy().tobytes()).hexdigest()[:16]


def check_in_front(points: Float[Tensor, "N 3"], camera: Camera, axes: str) -> None:
    """Raise InputError if no rotation about the axes of an order brings a point in front of the camera."""
    farthest = _deepest(points, axes)
    if camera.distance + farthest <= camera.near:
        raise InputError(
            f"all points are behind the camera: expected a distance of more than {camera.near - farthest:g}, "
            f"got {camera.distance:g}"
        )


def _deepest(points: Float[Tensor, "N 3"], axes: str) -> float:
    """Return the greatest depth, relative to the origin, that a point reaches by rotations about the axes.

    A last rotation about z does not change depths. One other rotation brings a point as deep as its distance from that
    axis, two bring it as deep as its distance from the origin.
    """
    axes = (axes if axes.isupper() else axes[::-1].upper()).removeprefix("Z")
    if not axes:
        return points[:, 2].max().item()
    off = [k for k in range(3) if AXES[k] != axes]
    return torch.linalg.vector_norm(points[:, off], dim=1).max().item()


def _vertices(path: Path) -> np.ndarray:
    with needs_extra("a mesh file"):
        import trimesh

    loaded: Any = trimesh.load(path, process=False, maintain_order=True)  # else vertices at texture seams appear twice
    if isinstance(loaded, trimesh.Scene):
        parts: Any = loaded.dump()
        return np.unique(np.concatenate([part.vertices for part in parts]), axis=0)  # each part has the vertices of all
    return np.asarray(loaded.vertices)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".ply": _vertices,
    ".obj": _vertices,
    ".xyz": partial(np.loadtxt, usecols=range(3), ndmin=2),
    ".npy": np.load,
}
