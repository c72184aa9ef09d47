"""`stnrot pose`: the angles about coordinate axes of a solid in an image."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from stnrot.pose.fit import Pose

EXAMPLES = """
Examples:

- `stnrot pose image.png --points torus`

- `stnrot pose image.png --points part.ply --axes XYZ --out overlay.png`

- `stnrot pose image.png --points part.ply --fov-deg 60 --json`
"""


def pose(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image of the solid, bright on black.")],
    points: Annotated[
        str,
        typer.Option(
            help="Points of the solid: torus, or a file. Text (.xyz, .csv, .tsv, .txt, .asc, .pts): columns x, y, z. A "
            "mesh (.ply, .obj, .stl, .off, .glb, .gltf): its vertices. An array of NumPy (.npy): N x 3.",
            show_default=False,
        ),
    ],
    axes: Annotated[
        str,
        typer.Option(
            help="One to three axes. Upper case: XZ is the matrix Rx Rz. Lower case rotates about fixed axes: xz is "
            "Rz Rx.",
        ),
    ] = "XZ",
    ckpt: Annotated[
        Path | None,
        typer.Option(help="Start from the estimate of a network: best.ckpt of a run of task=pose. Default: search."),
    ] = None,
    # the defaults are those of `Camera`, which imports torch
    distance: Annotated[
        float,
        typer.Option(rich_help_panel="Camera", help="From the camera to the origin of the solid, in the solid's unit."),
    ] = 2.0,
    fov_deg: Annotated[
        float, typer.Option(rich_help_panel="Camera", help="Field of view along the shorter side, in degrees.")
    ] = 90.0,
    sigma: Annotated[
        float, typer.Option(rich_help_panel="Camera", help="Standard deviation of the Gaussian of a point, in pixels.")
    ] = 2.5,
    near: Annotated[
        float,
        typer.Option(
            rich_help_panel="Camera", help="Points nearer to the camera are not drawn, in the unit of the solid."
        ),
    ] = 0.05,
    saturation: Annotated[
        Literal["clamp", "soft"],
        typer.Option(
            rich_help_panel="Camera",
            help="How a sum s of Gaussians is limited to 1. clamp: min(s, 1). soft: 1 - exp(-s).",
        ),
    ] = "clamp",
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Output",
            help="Image to write: the pose drawn over IMAGE. White: both. Red: IMAGE alone. Cyan: the pose alone.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel="Output", help="Print JSON.")] = False,
) -> int:
    """Find the pose of a known solid in an image.

    The solid is a set of points. IMAGE shows it bright on black, each point as a round Gaussian. The command finds the
    angles about coordinate axes by which the solid is rotated. The camera looks along +z, with x to the right and y
    downward. The origin of the solid lies in front of the camera, at --distance.
    """
    from stnrot.alignment.inputs import read_image
    from stnrot.commands.output import check_output
    from stnrot.geometry.splat import Camera, render
    from stnrot.image_kinds import to_floats
    from stnrot.pose.fit import fit_pose
    from stnrot.pose.point_clouds import read_points

    if out is not None:
        check_output(out, image)
    pixels = to_floats(read_image(image, channels=1)[0], str(image)).planes[0, 0]
    height, width = pixels.shape
    camera = Camera(distance, fov_deg, height, width, sigma, saturation, near)
    solid = read_points(points)
    found = fit_pose(pixels, solid, axes, camera=camera, start=ckpt)
    _print(image, axes, found, as_json)
    if out is not None:
        _write_overlay(pixels, render(solid, found.matrix[0], camera), out)
    return 0


def _print(image: Path, axes: str, found: "Pose", as_json: bool) -> None:
    loss, converged = found.loss.item(), bool(found.converged)
    alike = found.hypotheses[0][found.alike[0]].rad2deg().tolist()
    if as_json:
        answer = {"image": str(image), "axes": axes, "angles_deg": alike[0], "matrix": found.matrix[0].tolist()}
        print(json.dumps(answer | {"loss": loss, "converged": converged, "alike_deg": alike}))
        return
    for axis, angle in zip(axes, alike[0], strict=True):
        print(f"{axis}          {angle:.3f} degrees")
    print(f"loss       {loss:.3g} (root {math.sqrt(loss):.2g} of full brightness)")
    print(f"converged  {'yes' if converged else 'no: do not rely on these angles'}")
    for other in alike[1:]:
        print(f"or         {', '.join(f'{angle:.3f}' for angle in other)}, which looks nearly the same")


def _write_overlay(image: "Float[Tensor, 'H W']", rendered: "Float[Tensor, 'H W']", out: Path) -> None:
    import torch

    from stnrot.commands.output import write_image

    write_image((torch.stack((image, rendered, rendered), -1) * 255).round().byte().numpy(), out)
