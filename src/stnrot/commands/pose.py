"""`stnrot pose`: the angles that `stnrot.fit_pose` finds in a picture."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.alignment.inputs import read_file
from stnrot.commands.output import check_output, write_picture
from stnrot.geometry.splat import SATURATIONS, Camera, render
from stnrot.pose.fit import Pose, fit_pose
from stnrot.pose.point_clouds import read_points

DEFAULT = Camera()


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "pose",
        help="find the angles about coordinate axes at which a solid was drawn",
        description="Find the angles by which a known solid, a set of points, was turned to give IMAGE: bright on "
        "black, each point a round Gaussian. The camera looks along +z with x to the right and y downward, the solid's "
        "origin before it.",
    )
    command.add_argument("image", type=Path, metavar="IMAGE")
    command.add_argument(
        "--points", required=True, metavar="FILE", help="the solid: torus, or a .ply, .obj, .xyz or .npy file of points"
    )
    command.add_argument(
        "--axes",
        default="XZ",
        help="one to three axes: XZ is the matrix Rx Rz, and lower case, xz, turns about axes that stay, Rz Rx; "
        "default: %(default)s",
    )
    for name, unit in (
        ("distance", "of the solid's origin from the camera, in its own unit"),
        ("fov-deg", "angle that the shorter side of the picture takes in"),
        ("sigma", "standard deviation of the Gaussian of a point, in pixels"),
        ("near", "depth from the camera up to which nothing is drawn, in the same unit"),
    ):
        default = getattr(DEFAULT, name.replace("-", "_"))
        command.add_argument(f"--{name}", type=float, default=default, help=f"{unit}; default: %(default)s")
    command.add_argument(
        "--saturation",
        choices=SATURATIONS,
        default=DEFAULT.saturation,
        help="what ends a sum s of Gaussians at 1: min(s, 1) or 1 - exp(-s); default: %(default)s",
    )
    command.add_argument(
        "--ckpt", type=Path, metavar="CKPT", help="best.ckpt of a run of task=pose, to start from what its network says"
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to draw what was found over the picture: white where both are, red the picture alone, cyan what "
        "was found alone",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_pose)


def _pose(args: argparse.Namespace) -> int:
    if args.out is not None:
        check_output(args.out, args.image)
    picture = read_file(args.image, channels=1)[0]
    image = picture.float() / (255 if picture.dtype is torch.uint8 else 1)
    height, width = image.shape
    camera = Camera(args.distance, args.fov_deg, height, width, args.sigma, args.saturation, args.near)
    points = read_points(args.points)
    found = fit_pose(image, points, args.axes, camera=camera, start=args.ckpt)
    _print(args, found)
    if args.out is not None:
        _overlay(image, render(points, found.matrix[0], camera), args.out)
    return 0


def _print(args: argparse.Namespace, found: Pose) -> None:
    loss, converged = found.loss.item(), bool(found.converged)
    alike = found.hypotheses[0][found.alike[0]].rad2deg().tolist()
    if args.json:
        facts = {
            "image": str(args.image),
            "axes": args.axes,
            "angles_deg": alike[0],
            "matrix": found.matrix[0].tolist(),
        }
        print(json.dumps(facts | {"loss": loss, "converged": converged, "alike_deg": alike}))
        return
    for axis, angle in zip(args.axes, alike[0], strict=True):
        print(f"{axis}          {angle:.3f} degrees")
    print(f"loss       {loss:.3g} (root {math.sqrt(loss):.2g} of full brightness)")
    print(f"converged  {'yes' if converged else 'no: this is not to be relied on'}")
    for other in alike[1:]:
        print(f"or         {', '.join(f'{angle:.3f}' for angle in other)}, which looks nearly the same")


def _overlay(image: Float[Tensor, "H W"], drawn: Float[Tensor, "H W"], out: Path) -> None:
    write_picture((torch.stack((image, drawn, drawn), -1) * 255).round().byte().numpy(), out)
