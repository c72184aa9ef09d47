"""The renderer of point clouds is tens of times as fast as a plain sum of Gaussians, forward and backward.

    python benchmarks/render.py [--rounds 10] [--json PATH]

Half a minute on two cores. Renders 1,000 points of a torus in 128 x 128 pixels at a random pose and backpropagates to
the angles. Prints the milliseconds of both ways, the speed-up (the median of the rounds' ratios) and the largest
difference of the renderer from the plain sum in float64.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from harness.environment import environment
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from harness.torus import AXES, CAMERA, random_poses
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import project, render
from stnrot.pose.point_clouds import torus
from stnrot.runs.command_line import one_line_errors


def plain_sum(points: Tensor, angles: Tensor) -> Tensor:
    """Render in the simplest form, by N x H x W exponentials."""
    place, _ = project(points, euler_to_matrix(angles, AXES), CAMERA)
    row = torch.arange(CAMERA.height, dtype=points.dtype)[:, None]
    column = torch.arange(CAMERA.width, dtype=points.dtype)
    squared = (row - place[..., 1, None, None]) ** 2 + (column - place[..., 0, None, None]) ** 2
    return (-squared / (2 * CAMERA.sigma**2)).exp().sum(-3).clamp(0, 1)


def ours(points: Tensor, angles: Tensor) -> Tensor:
    """Render by `stnrot`."""
    return render(points, euler_to_matrix(angles, AXES), CAMERA)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both ways and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_rounds(10)
    args = options.read(arguments)
    points, angles = torus(), random_poses(1, seed=1)

    def step(method: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        leaf = angles.clone().requires_grad_()
        return lambda: method(points, leaf).square().sum().backward()

    times = alternate({"stnrot": step(ours), "plain": step(plain_sum)}, args.rounds, lead_in=1, calls=1, device="cpu")
    exact = plain_sum(points.double(), angles.double())
    found: Row = {
        "image": f"{len(points)} points, {CAMERA.height} x {CAMERA.width}",
        "stnrot, ms": 1000 * median(times["stnrot"]),
        "plain sum, ms": 1000 * median(times["plain"]),
        "speed-up": speedup(times, "stnrot", "plain"),
        "largest difference from float64": f"{(ours(points, angles) - exact).abs().max().item():.1e}",
    }
    report(args, environment("cpu"), Table("forward and backward to the angles", [found]))


if __name__ == "__main__":
    with one_line_errors():
        main()
