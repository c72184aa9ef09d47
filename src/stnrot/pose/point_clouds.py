"""Solids as sets of points: a torus, or the points of a file."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.euler import AXES
from stnrot.geometry.splat import Camera
from stnrot.pose.meshes import read_vertices
from stnrot.pose.point_tables import read_table
from stnrot.regular_file import check_regular


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

    Of a mesh (.ply, .obj, .stl, .off, .glb, .gltf) each vertex is read once, of an array (.npy) the rows, and of text
    (.xyz, .csv, .tsv, .txt, .asc, .pts) the columns x, y and z: see `read_table`. A mesh with few vertices is rendered
    as few dots: sample its surface first, with `trimesh.sample.sample_surface_even`.

    Raises:
        InputError: names the file that cannot be read or has no points.
    """
    if str(source) == "torus":
        return torus()
    path = Path(source)
    if path.suffix.lower() not in READERS:
        raise InputError(f"points={source}: expected torus, or a file that ends in {', '.join(READERS)}")
    check_regular(path)
    if not path.is_file():
        raise InputError(f"points={source}: there is no such file; give torus or the path of a file")
    try:
        with np.errstate(over="ignore"):  # infinite values are refused below
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


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    **dict.fromkeys((".ply", ".obj", ".stl", ".off", ".glb", ".gltf"), read_vertices),
    **dict.fromkeys((".xyz", ".csv", ".tsv", ".txt", ".asc", ".pts"), read_table),
    ".npy": np.load,
}
