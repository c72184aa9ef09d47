"""Point sets that can be drawn: a torus, or the points of a file, before a camera."""

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

from stnrot.errors import InputError
from stnrot.geometry.euler import AXES
from stnrot.geometry.splat import Camera


def torus(
    count: int = 1000, radius: float = 0.5, tube: float = 0.2, generator: torch.Generator | None = None
) -> Float[Tensor, "{count} 3"]:
    """Draw points of a torus at random, uniform in its two angles; its axis is y.

    Without a generator they are always the same.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    around, about = 2 * math.pi * torch.rand(2, count, generator=generator)
    distance = radius + tube * about.cos()
    return torch.stack((distance * around.cos(), tube * about.sin(), distance * around.sin()), -1)


def read_points(source: str | Path) -> Float[Tensor, "N 3"]:
    """Return `torus`, or the points of a file: all vertices of a .ply or .obj, the rows of a .npy, or the first three
    columns of a .xyz.

    A mesh of few vertices shows as few dots: sample its surface first, with `trimesh.sample.sample_surface_even`.

    Raises:
        InputError: names the file that cannot be read or holds no points.
    """
    if str(source) == "torus":
        return torus()
    path = Path(source)
    if path.suffix.lower() not in READERS:
        raise InputError(f"points={source}: expected torus, or a file that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"points={source}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of a file without numbers
            points = READERS[path.suffix.lower()](path).astype(np.float32, casting="same_kind")
    except Exception as error:  # readers of meshes raise almost anything on broken files
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read the points of {path}: {reason}; expected a whole {path.suffix} file") from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"{path} holds an array of shape {points.shape}: expected N x 3 finite numbers, N at least 1")
    return torch.from_numpy(points)


def fingerprint(points: Float[Tensor, "N 3"]) -> str:
    """Return what tells a point set from others."""
    return hashlib.sha256(points.float().cpu().numpy().tobytes()).hexdigest()[:16]


def check_before(points: Float[Tensor, "N 3"], camera: Camera, axes: str) -> None:
    """Refuse points of which turns about the axes of an order bring none before the camera."""
    farthest = _deepest(points, axes)
    if camera.distance + farthest <= camera.near:
        raise InputError(
            f"all points are behind the camera: expected a distance of more than {camera.near - farthest:g}, "
            f"got {camera.distance:g}"
        )


def _deepest(points: Float[Tensor, "N 3"], axes: str) -> float:
    """Return the greatest depth, from the origin, to which turns about the axes bring a point.

    A last turn about z changes none. By one other turn a point gets as deep as it is far from that axis, by two as it
    is far from the origin.
    """
    axes = (axes if axes.isupper() else axes[::-1].upper()).removeprefix("Z")
    if not axes:
        return points[:, 2].max().item()
    off = [k for k in range(3) if AXES[k] != axes]
    return torch.linalg.vector_norm(points[:, off], dim=1).max().item()


def _vertices(path: Path) -> np.ndarray:
    import trimesh  # a part of a second, for who needs it

    loaded: Any = trimesh.load(path, process=False, maintain_order=True)  # else twice those at seams of a texture
    if isinstance(loaded, trimesh.Scene):
        parts: Any = loaded.dump()
        return np.unique(np.concatenate([part.vertices for part in parts]), axis=0)  # each part has those of all
    return np.asarray(loaded.vertices)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".ply": _vertices,
    ".obj": _vertices,
    ".xyz": partial(np.loadtxt, usecols=range(3), ndmin=2),
    ".npy": np.load,
}
