"""`fit_pose` finds the pose of a torus in 100 of 100 clean images, in 97 of 100 noisy images with an occluded quadrant.

    python benchmarks/pose.py [--poses 100] [--ckpt PATH] [--json PATH]

Two minutes on two cores, and 2.5 to train the network, `python train.py experiment=torus_pose`, unless --ckpt or
--folder has it. Renders 1,000 points of a torus in 128 x 128 pixels at seeded poses whose axis is uniform on the
sphere, and estimates the two angles without an initial guess: by search, by the network, and by descent from the
network's angles. In a hard image one random quadrant is covered by an even grey between 0 and 1, and noise of 0.1 is
added.

Prints for each method the error, which is the angle between the true axis and the one found, without direction, and
computed in float64. An error beyond 2 degrees is `reversed` if the axis is within 2 degrees of the true one's mirror
image in depth. Times are of one call for all poses and the median of the first ten poses one by one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.environment import environment
from harness.jobs import trained
from harness.report import Options, Table, absolute, at_least_one, report
from harness.torus import AXES, clean_and_hard, random_poses, row, timed
from stnrot import fit_pose
from stnrot.pose.point_clouds import torus
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors

QUICK = ("data.samples=20", "data.batch_size=2", "trainer=cpu", "trainer.max_epochs=1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network, estimate the poses, time and report."""
    options = Options(__file__, __doc__, poses=1)
    options.add_argument("--poses", type=at_least_one, default=100)
    options.add_argument("--ckpt", type=Path, help="of a run of experiment=torus_pose")
    options.add_argument("--folder", type=absolute, default=absolute("outputs/pose"), help="of that run")
    args = options.read(arguments)
    ckpt = args.ckpt or trained(args.folder / "torus_pose", ["experiment=torus_pose", *(QUICK if args.quick else ())])
    network: Any = rebuild(read_checkpoint(ckpt), ckpt).model
    points, true = torus(), random_poses(args.poses, seed=1)
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "search": lambda images: fit_pose(images, points, AXES).angles,
        "network": network.angles,
        "network, then descent": lambda images: fit_pose(images, points, AXES, start=network).angles,
    }
    rows = [
        row(level, name, *timed(method, images), true)
        for level, images in clean_and_hard(points, true).items()
        for name, method in methods.items()
    ]
    report(args, environment("cpu") | {"poses": args.poses}, Table("pose without an initial guess", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
