"""Images of a torus at known poses, and the error of an estimated pose, for the pose benchmarks."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.report import Row
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render

AXES, CAMERA = "XZ", Camera()
NOISE = 0.1
ALONE = 10  # poses that are timed one by one


def random_poses(count: int, seed: int) -> Tensor:
    """Return angles [count, 2] whose axis is uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    return angles_to(normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1))


def angles_to(axis: Tensor) -> Tensor:
    """Return the angles about X and Z that rotate y to an axis."""
    x, y, z = axis.unbind(1)
    return torch.stack((torch.atan2(z, y), torch.asin(-x)), 1).float()


def axis_of(angles: Tensor) -> Tensor:
    """Return the axis of the torus at these angles."""
    return euler_to_matrix(angles.double(), AXES)[..., :, 1]


def between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two axes without direction, in degrees, by sine and cosine."""
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1).abs()).rad2deg()


def pose_error(angles: Tensor, true: Tensor) -> Tensor:
    """Return the angle between the axes of two poses, in degrees."""
    return between(axis_of(angles), axis_of(true))


def rendered(points: Tensor, angles: Tensor) -> Tensor:
    """Return images [B, 1, H, W] of the points at these angles."""
    with torch.no_grad():
        return render(points, euler_to_matrix(angles, AXES), CAMERA)[:, None]


def clean_and_hard(points: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return images at the true angles, clean and hard: with one occluded quadrant and noise."""
    clean = rendered(points, true)
    return {"clean": clean, "hard": _degraded(clean, seed=2)}


def timed(method: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, float, float]:
    """Return the angles that a method finds, and the seconds a pose: in one call for all, and one by one."""
    alone = []
    for k in range(min(ALONE, len(images))):
        start = time.perf_counter()
        method(images[k : k + 1])
        alone.append(time.perf_counter() - start)
    start = time.perf_counter()
    angles = method(images)
    return angles, (time.perf_counter() - start) / len(images), median(alone)


def row(level: str, name: str, angles: Tensor, seconds: float, alone: float | None, true: Tensor) -> Row:
    """Return a row of the table for the angles that a method found."""
    error = pose_error(angles, true)
    mirrored = axis_of(true) * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    reverse = (error > 2) & (between(axis_of(angles), mirrored) < 2)
    failures = (error > 2).nonzero()[:, 0].tolist()
    listed = ", ".join(f"{k}: {error[k]:.1f}{' reversed' if reverse[k] else ''}" for k in failures[:10])
    return {
        "images": level,
        "method": name,
        "median, degrees": f"{error.median().item():.2g}",
        "within 0.1": f"{int((error <= 0.1).sum())} of {len(error)}",
        "within 2": f"{int((error <= 2).sum())} of {len(error)}",
        "s a pose, at once": f"{seconds:.3f}",
        "one by one": "" if alone is None else f"{alone:.3f}",
        "beyond 2, number: degrees": listed + (" ..." if len(failures) > 10 else ""),
    }


def _degraded(images: Tensor, seed: int) -> Tensor:
    """Cover a quadrant of each image with an even grey and add noise."""
    generator = torch.Generator().manual_seed(seed)
    images = images.clone()
    half = images.shape[-1] // 2
    for image in images:
        top, left = (half * torch.randint(2, (2,), generator=generator)).tolist()
        image[..., top : top + half, left : left + half] = torch.rand((), generator=generator)
    return (images + NOISE * torch.randn(images.shape, generator=generator)).clamp(0, 1)
