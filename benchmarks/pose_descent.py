"""Plain gradient descent on the pose of a torus needs a good start; the descent of `fit_pose` is ten times as fast.

    python benchmarks/pose_descent.py [--poses 100] [--json PATH] [--gif PATH]

Three minutes on two cores. Uses the images of `pose.py`. Gradient descent is Adam on the two angles through the exact
renderer, 200 steps with the learning rate of three that has the smallest median error on other poses. It starts from
an axis that is 20 degrees off, and from a random one, as in papers on differentiable renderers. "descent of fit_pose"
starts from the same angles. Prints the columns of `pose.py`. The GIF shows one descent: of the random starts from
which it finds the pose, the one that is farthest off.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from harness.environment import environment
from harness.report import Options, Row, Table, at_least_one, new_file, report
from harness.torus import AXES, CAMERA, angles_to, axis_of, clean_and_hard, pose_error, random_poses, rendered, row
from stnrot import fit_pose
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import render
from stnrot.pose.point_clouds import torus
from stnrot.runs.command_line import one_line_errors

STEPS, RATES, OFF = 200, (0.01, 0.03, 0.1), math.radians(20)
AT_ONCE = 4  # images of a backward pass; plain descent is fastest with 4


def descent(images: Tensor, start: Tensor, points: Tensor, rate: float, steps: int) -> list[Tensor]:
    """Follow the gradient of the squared difference to the images; return the angles after every step."""
    angles = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([angles], lr=rate)
    path = [start]
    for _ in range(steps):
        optimizer.zero_grad()
        for each, image in zip(angles.split(AT_ONCE), images[:, 0].split(AT_ONCE), strict=True):
            (render(points, euler_to_matrix(each, AXES), CAMERA) - image).square().sum().backward()
        optimizer.step()
        path.append(angles.detach().clone())
    return path


def starts(true: Tensor, seed: int) -> dict[str, Tensor]:
    """Return angles whose axis is 20 degrees off in a random direction, and random angles."""
    generator = torch.Generator().manual_seed(seed)
    axis = axis_of(true)
    aside = normalize(torch.linalg.cross(axis, torch.randn(axis.shape, generator=generator, dtype=axis.dtype)), dim=1)
    return {
        "20 degrees off": angles_to(math.cos(OFF) * axis + math.sin(OFF) * aside),
        "random start": random_poses(len(true), seed + 1),
    }


def animate(image: Tensor, path: list[Tensor], points: Tensor, file: Path) -> None:
    """Draw a descent: the image in red, the rendered one in cyan, both in white; a frame every few steps."""
    frames = []
    for k in [*range(0, min(40, len(path)), 2), *range(40, len(path), 8)]:
        shown = rendered(points, path[k])[0, 0]
        pixels = (torch.stack((image, shown, shown), -1) * 255).round().byte().numpy()
        middle = Image.fromarray(pixels).crop((20, 20, 108, 108))
        frames.append(middle.resize((264, 264), Image.Resampling.BICUBIC))
    frames[0].save(
        file, save_all=True, append_images=frames[1:], duration=[400, *[80] * (len(frames) - 2), 2000], loop=0
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Descend in both ways from both starts, time and report."""
    options = Options(__file__, __doc__, poses=2, steps=2)
    options.add_argument("--poses", type=at_least_one, default=100)
    options.add_argument("--steps", type=at_least_one, default=STEPS, help="of gradient descent")
    options.add_argument("--gif", type=new_file, metavar="PATH", help="write one descent to this file")
    args = options.read(arguments)
    points, true = torus(), random_poses(args.poses, seed=1)
    levels = clean_and_hard(points, true)
    others = random_poses(2 if args.quick else 20, seed=3)
    rows: list[Row] = []
    for name, start in starts(true, seed=4).items():
        others_start = starts(others, seed=5)[name]
        ends = {rate: descent(rendered(points, others), others_start, points, rate, args.steps)[-1] for rate in RATES}
        rate = min(RATES, key=lambda rate: pose_error(ends[rate], others).median().item())
        for level, images in levels.items():
            begun = time.perf_counter()
            path = descent(images, start, points, rate, args.steps)
            seconds = (time.perf_counter() - begun) / len(true)
            rows.append(row(level, f"gradient descent, {name}, rate {rate:g}", path[-1], seconds, None, true))
            if args.gif is not None and level == "clean" and name == "random start":
                arrived = pose_error(path[-1], true) < 0.1
                k = int((pose_error(start, true) * arrived).argmax())
                animate(images[k, 0], [angles[k : k + 1] for angles in path], points, args.gif)
            begun = time.perf_counter()
            angles = fit_pose(images, points, AXES, start=start).angles
            seconds = (time.perf_counter() - begun) / len(true)
            rows.append(row(level, f"descent of fit_pose, {name}", angles, seconds, None, true))
    report(args, environment("cpu") | {"poses": args.poses}, Table("pose from a start", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
