"""The pose of a torus from one picture: search, network and plain gradient descent; the renderer beside a plain sum.

    python benchmarks/pose.py [--poses 100] [--ckpt PATH] [--json PATH] [--gif PATH]

draws 1,000 points of a torus on 128 x 128 pixels at poses whose axis is uniform on the sphere, seeded, and asks for the
two angles with no initial guess. The error is the angle between the true axis and the one found, either way round (in
float64, by sine and cosine). A failure is `reversed` if its axis is within 2 degrees of the mirror image in depth. In
the hard pictures one quadrant, drawn at random, lies behind an even grey between 0 and 1, and noise of 0.1 is on top.

Gradient descent is Adam on the two angles through the exact renderer, 200 steps with the learning rate of three that
is best on other poses: from a start whose axis is 20 degrees off, and from a random one, the protocols that papers on
differentiable renderers use. `descent of fit_pose` starts from the same angles.

Without --ckpt the network is trained first, `python train.py experiment=torus_pose`, into --folder. Times are of one
call for all poses and, of the first ten, one by one: the median. Takes about five minutes on two cores, and the
training. The GIF shows one descent, that of the random start farthest off among those that arrive.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from timing import environment, in_turn, markdown, parser, speedup  # type: ignore[import-not-found]
from torch import Tensor
from torch.nn.functional import normalize

from stnrot import fit_pose
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, project, render
from stnrot.pose.point_clouds import torus
from stnrot.runs.checkpoints import read_checkpoint, rebuild

PROJECT = Path(__file__).resolve().parents[1]
AXES, CAMERA, ALONE = "XZ", Camera(), 10
AT_ONCE = 4  # pictures of the plain descent, which is fastest so
NOISE, STEPS, RATES, OFF = 0.1, 200, (0.01, 0.03, 0.1), math.radians(20)
Row = dict[str, str | float]


def random_poses(count: int, seed: int) -> Tensor:
    """Return angles whose axis is anywhere on the sphere, uniformly."""
    generator = torch.Generator().manual_seed(seed)
    return angles_to(normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1))


def angles_to(axis: Tensor) -> Tensor:
    """Return the angles about X and Z that bring y onto an axis."""
    x, y, z = axis.unbind(1)
    return torch.stack((torch.atan2(z, y), torch.asin(-x)), 1).float()


def spoiled(pictures: Tensor, seed: int) -> Tensor:
    """Hide a quadrant of each picture and add noise."""
    generator = torch.Generator().manual_seed(seed)
    pictures = pictures.clone()
    half = pictures.shape[-1] // 2
    for picture in pictures:
        top, left = (half * torch.randint(2, (2,), generator=generator)).tolist()
        picture[..., top : top + half, left : left + half] = torch.rand((), generator=generator)
    return (pictures + NOISE * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def axis_of(angles: Tensor) -> Tensor:
    """Return the axis of the torus at angles."""
    return euler_to_matrix(angles.double(), AXES)[..., :, 1]


def between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between axes in degrees, either way round."""
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1).abs()).rad2deg()


def off(angles: Tensor, true: Tensor) -> Tensor:
    """Return the error in degrees."""
    return between(axis_of(angles), axis_of(true))


def drawn(points: Tensor, angles: Tensor) -> Tensor:
    """Return pictures [B, 1, H, W]."""
    with torch.no_grad():
        return render(points, euler_to_matrix(angles, AXES), CAMERA)[:, None]


def row(level: str, name: str, angles: Tensor, seconds: float, alone: float | None, true: Tensor) -> Row:
    """Return a line of the table."""
    error = off(angles, true)
    mirrored = axis_of(true) * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    backwards = (error > 2) & (between(axis_of(angles), mirrored) < 2)
    failures = (error > 2).nonzero()[:, 0].tolist()
    listed = ", ".join(f"{k}: {error[k]:.1f}{' reversed' if backwards[k] else ''}" for k in failures[:10])
    return {
        "pictures": level,
        "method": name,
        "median, degrees": f"{error.median().item():.2g}",
        "within 0.1": f"{int((error <= 0.1).sum())} of {len(error)}",
        "within 2": f"{int((error <= 2).sum())} of {len(error)}",
        "s a pose, at once": f"{seconds:.3f}",
        "one by one": "" if alone is None else f"{alone:.3f}",
        "farther off, number: degrees": listed + (" ..." if len(failures) > 10 else ""),
    }


def timed(method: Callable[[Tensor], Tensor], pictures: Tensor) -> tuple[Tensor, float, float]:
    """Return what a method finds, and the seconds a pose at once and one by one."""
    alone = []
    for k in range(min(ALONE, len(pictures))):
        start = time.perf_counter()
        method(pictures[k : k + 1])
        alone.append(time.perf_counter() - start)
    start = time.perf_counter()
    angles = method(pictures)
    return angles, (time.perf_counter() - start) / len(pictures), median(alone)


def descent(pictures: Tensor, start: Tensor, points: Tensor, rate: float) -> list[Tensor]:
    """Follow the gradient of the squared difference to the angles; return them after every step."""
    angles = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([angles], lr=rate)
    path = [start]
    for _ in range(STEPS):
        optimizer.zero_grad()
        for each, picture in zip(angles.split(AT_ONCE), pictures[:, 0].split(AT_ONCE), strict=True):
            (render(points, euler_to_matrix(each, AXES), CAMERA) - picture).square().sum().backward()
        optimizer.step()
        path.append(angles.detach().clone())
    return path


def starts(true: Tensor, seed: int) -> dict[str, Tensor]:
    """Return angles whose axis is 20 degrees off in a random direction, and random ones."""
    generator = torch.Generator().manual_seed(seed)
    axis = axis_of(true)
    aside = normalize(torch.linalg.cross(axis, torch.randn(axis.shape, generator=generator, dtype=axis.dtype)), dim=1)
    return {
        "20 degrees off": angles_to(math.cos(OFF) * axis + math.sin(OFF) * aside),
        "random start": random_poses(len(true), seed + 1),
    }


def trained(folder: Path) -> Path:
    """Train the network, unless it lies there."""
    path = folder / "checkpoints" / "best.ckpt"
    if not path.is_file():
        command = [sys.executable, str(PROJECT / "train.py"), "experiment=torus_pose", f"hydra.run.dir='{folder}'"]
        subprocess.run([*command, "callbacks.progress=null"], check=True)
    return path


def plain_sum(points: Tensor, angles: Tensor) -> Tensor:
    """Draw as one would write it: N x H x W exponentials."""
    place, _ = project(points, euler_to_matrix(angles, AXES), CAMERA)
    row = torch.arange(CAMERA.height, dtype=points.dtype)[:, None]
    column = torch.arange(CAMERA.width, dtype=points.dtype)
    squared = (row - place[..., 1, None, None]) ** 2 + (column - place[..., 0, None, None]) ** 2
    return (-squared / (2 * CAMERA.sigma**2)).exp().sum(-3).clamp(0, 1)


def renderers(points: Tensor, angles: Tensor, rounds: int) -> Row:
    """Time both ways to draw, forward and backward to the angles."""

    def step(draw: Callable[[Tensor], Tensor]) -> None:
        leaf = angles.clone().requires_grad_()
        draw(leaf).square().sum().backward()

    def ours(leaf: Tensor) -> Tensor:
        return render(points, euler_to_matrix(leaf, AXES), CAMERA)

    methods = {"stnrot": lambda: step(ours), "plain": lambda: step(lambda leaf: plain_sum(points, leaf))}
    times = in_turn(methods, rounds=rounds, lead_in=1, calls=1, device="cpu")
    exact = plain_sum(points.double(), angles.double())
    return {
        "picture": f"{len(points)} points, {CAMERA.height} x {CAMERA.width}",
        "stnrot, ms": 1000 * median(times["stnrot"]),
        "plain sum, ms": 1000 * median(times["plain"]),
        "speed-up": speedup(times, "stnrot", "plain"),
        "largest difference from float64": f"{(ours(angles) - exact).abs().max().item():.1e}",
    }


def animate(pictures: Tensor, path: list[Tensor], points: Tensor, number: int, file: Path) -> None:
    """Draw a descent: the picture in red, what is rendered in cyan, both white; a frame every few steps."""
    frames = []
    for k in [*range(0, 40, 2), *range(40, STEPS + 1, 8)]:
        shown = drawn(points, path[k][number : number + 1])[0, 0]
        pixels = (torch.stack((pictures[number, 0], shown, shown), -1) * 255).round().byte().numpy()
        middle = Image.fromarray(pixels).crop((20, 20, 108, 108))
        frames.append(middle.resize((264, 264), Image.Resampling.BICUBIC))
    frames[0].save(
        file, save_all=True, append_images=frames[1:], duration=[400, *[80] * (len(frames) - 2), 2000], loop=0
    )


def from_starts(points: Tensor, true: Tensor, levels: dict[str, Tensor], gif: Path | None) -> list[Row]:
    """Descend from starts, plainly and as `fit_pose` does from them."""
    rows = []
    others = random_poses(20, seed=3)
    for name, start in starts(true, seed=4).items():
        aside = starts(others, seed=5)[name]
        paths = {rate: descent(drawn(points, others), aside, points, rate) for rate in RATES}
        rate = min(RATES, key=lambda rate: off(paths[rate][-1], others).median().item())
        for level, pictures in levels.items():
            begun = time.perf_counter()
            path = descent(pictures, start, points, rate)
            seconds = (time.perf_counter() - begun) / len(true)
            rows.append(row(level, f"gradient descent, {name}, rate {rate:g}", path[-1], seconds, None, true))
            if gif is not None and level == "clean" and name == "random start":
                arrived = off(path[-1], true) < 0.1
                animate(pictures, path, points, int((off(start, true) * arrived).argmax()), gif)
            begun = time.perf_counter()
            angles = fit_pose(pictures, points, AXES, start=start).angles
            seconds = (time.perf_counter() - begun) / len(true)
            rows.append(row(level, f"descent of fit_pose, {name}", angles, seconds, None, true))
    return rows


def main() -> None:
    """Find, time and report."""
    options = parser(__doc__, rounds=10)
    options.add_argument("--poses", type=int, default=100)
    options.add_argument("--ckpt", type=Path, help="of a run of experiment=torus_pose")
    options.add_argument("--folder", type=Path, default=Path("outputs/torus_pose"))
    options.add_argument("--gif", type=Path)
    args = options.parse_args()
    ckpt = args.ckpt or trained(args.folder.absolute())
    network: Any = rebuild(read_checkpoint(ckpt), ckpt).model
    points, true = torus(), random_poses(args.poses, seed=1)
    clean = drawn(points, true)
    levels = {"clean": clean, "hard": spoiled(clean, seed=2)}
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "search": lambda pictures: fit_pose(pictures, points, AXES).angles,
        "network": network.angles,
        "network, then descent": lambda pictures: fit_pose(pictures, points, AXES, start=network).angles,
    }
    rows = [
        row(level, name, *timed(method, pictures), true)
        for level, pictures in levels.items()
        for name, method in methods.items()
    ]

    rows += from_starts(points, true, levels, args.gif)
    speed = renderers(points, true[:1], args.rounds)
    facts = environment("cpu") | {"poses": args.poses}
    print(", ".join(f"{key}: {value}" for key, value in facts.items()), markdown(rows), markdown([speed]), sep="\n\n")
    if args.json is not None:
        args.json.write_text(json.dumps({"environment": facts, "poses": rows, "renderer": speed}, indent=2) + "\n")


if __name__ == "__main__":
    main()
