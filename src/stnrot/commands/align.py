"""`stnrot align`: the angle between two images, or between the images of each pair in a table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnrot.alignment.motion_kind import DEFAULT, STACK_DEFAULT, MotionKind
from stnrot.alignment.stacks.reference_kind import FIRST, ReferenceKind
from stnrot.commands.share_option import ShareOption
from stnrot.commands.trust import Trust
from stnrot.errors import InputError
from stnrot.printed import printable

if TYPE_CHECKING:
    from stnrot.alignment.alignment import Alignment

EXAMPLES = """
Examples:

- `stnrot align image.png reference.png --motion rigid --out aligned.png`

- `stnrot align --manifest pairs.csv --out angles.csv --ckpt best.ckpt`

- `stnrot align --stack frames/*.png --out aligned`
"""
MIN_SHARE = 0.02  # of a further hypothesis that is printed: its confidence, and its weight among all


def align(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE REFERENCE | FRAMES",
            help="Image to rotate, and image to align it with. With --stack: the frames in order, as files, folders, "
            "or TIFF files of several pages.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Many pairs",
            help="Align the pairs of this CSV file. Its columns are image,reference; relative paths start at its "
            "folder. Needs --out. Run the same command again to resume. A pair that fails gets an error message in "
            "the column error; the exit code is then 1.",
        ),
    ] = None,
    stack: Annotated[
        bool,
        typer.Option(
            "--stack",
            rich_help_panel="Series",
            help="Align the frames of a series, against drift. Needs --out. Run the same command again to resume, or "
            "with further frames. A frame that fails gets an error message in the drift table; the exit code is then "
            "1.",
        ),
    ] = False,
    to: Annotated[
        ReferenceKind | None,
        typer.Option(
            rich_help_panel="Series",
            help="What a frame is aligned to: the first frame; the previous one, where motions are composed; or the "
            f"mean of all frames as aligned to the first. Default: {FIRST}.",
        ),
    ] = None,
    motion: Annotated[
        MotionKind | None,
        typer.Option(
            help="What may differ. rotation: both images have the same middle. rigid: they are also shifted, or one "
            "shows a part of the other, but one pixel shows as much in both. similarity: as rigid, and the scale "
            f"differs by a factor of 0.7 to 1.4. Default: {DEFAULT}, and with --stack {STACK_DEFAULT}.",
        ),
    ] = None,
    ckpt: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Model",
            help="Compare the images with a trained encoder: best.ckpt of a run of model=rot_stn. Default: correlate "
            "their pixels.",
        ),
    ] = None,
    trust: Trust = None,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Output",
            help="File to write: the aligned image or, with --manifest, a table with the columns line, image, "
            "reference, angle_deg, confidence, model, error. With --motion rigid or similarity it also has shift_x, "
            "shift_y, scale, overlap, the matrix (m00, m01, m02, m10, m11, m12) and motion. With --stack: a folder, "
            "or a TIFF file such as stack.tif; a table and a plot of the drift are written there too.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel="Output", help="Print JSON. Only for one pair.")
    ] = False,
    share: ShareOption = None,
) -> int:
    """Find the angle between two images, or the drift of a series.

    The angle, in degrees counter-clockwise, rotates IMAGE onto REFERENCE. The confidence is the probability that the
    error of the angle is below 5 degrees. If the mirror image of IMAGE matches REFERENCE better, a line that begins
    with `mirrored` is printed. With --motion rigid or similarity the shift is printed too: where the middle of IMAGE
    lies in REFERENCE, from its middle, in pixels. The aligned image then has the size of REFERENCE. With similarity the
    scale is printed too: the size of a thing in REFERENCE, divided by its size in IMAGE.

    For two images of the same thing, leave out --ckpt: the pixels are compared. If they are also shifted, or parts are
    hidden, try --motion rigid; if the scale differs, --motion similarity. For images with strong noise or occlusion,
    pass the checkpoint of a run on pairs (task=register data=image_pairs): its encoder compares the images. For two
    objects of one class, pass the checkpoint of a classifier: its encoder finds the upright angle of each image, and
    the angles are subtracted.
    """
    if share is not None and manifest is None:
        raise InputError("--share came without --manifest: expected a table of pairs; leave --share out")
    if stack:
        if manifest is not None or as_json:
            given = "--manifest" if manifest is not None else "--json"
            raise InputError(f"{given} came with --stack: expected one of the two; leave one out")
        if out is None:
            raise InputError("--stack needs --out: expected a folder or a TIFF file to write, such as --out stack.tif")
        from stnrot.commands.align_stack import align_frames

        return align_frames(images or [], out, to or FIRST, motion or STACK_DEFAULT, ckpt, trust or ())
    if to is not None:
        raise InputError(f"--to {to} came without --stack: expected a series of frames; add --stack")
    motion = motion or DEFAULT
    if manifest is not None:
        if images or as_json:
            given = "IMAGE" if images else "--json"
            raise InputError(f"{given} came with --manifest: expected one pair or a table of pairs; leave one out")
        if out is None:
            raise InputError("--manifest needs --out: expected the CSV file to write, such as --out angles.csv")
        from stnrot.alignment.tables.manifest import align_manifest
        from stnrot.runs.tables.share import read_share

        return align_manifest(manifest, out, motion, ckpt, trust or (), read_share(share))
    if images is None or len(images) != 2:
        given = "none" if not images else "one image" if len(images) == 1 else f"{len(images)} images"
        raise InputError(
            f"expected two images, IMAGE REFERENCE, got {given}; give both, or --manifest pairs.csv, or --stack with "
            "the frames of a series"
        )
    image, reference = images
    from stnrot.alignment.aligner import Aligner
    from stnrot.commands.output import check_output

    if out is not None:
        check_output(out, image, reference)
    alignment = Aligner(ckpt, trust=trust or ())(image, reference, motion)
    _print(image, reference, alignment, as_json)
    if out is not None:
        _write_aligned(image, alignment, out)
    return 0


def _print(image: Path, reference: Path, alignment: "Alignment", as_json: bool) -> None:
    from stnrot.models.confidence import confidence

    orientation = alignment.orientation
    angles, confidences = orientation.angle[0].rad2deg().tolist(), confidence(orientation)[0].tolist()
    weights = orientation.log_weight[0].exp().tolist()  # an unlikely angle shares the confidence of one beside it
    found = zip(angles, confidences, weights, strict=True)
    distinct = {angle: sure for angle, sure, weight in found if angle == angles[0] or min(sure, weight) >= MIN_SHARE}
    hypotheses = [{"angle_deg": angle, "confidence": sure} for angle, sure in distinct.items()]  # no repetitions
    best = hypotheses[0]
    mirrored = bool(alignment.mirrored)
    moved: dict[str, Any] = {}
    if alignment.motion != "rotation":
        moved = {
            "shift": alignment.shift[0].tolist(),
            "scale": alignment.scale.item(),
            "overlap": alignment.overlap.item(),
            "matrix": alignment.matrix[0].tolist(),
        }
    if as_json:
        answer = {"image": str(image), "reference": str(reference)} | best | moved
        print(json.dumps(answer | {"mirrored": mirrored, "hypotheses": hypotheses}))
        return
    print(f"angle      {_degrees(angles[0])} degrees counter-clockwise\nconfidence {confidences[0]:.3f}")
    if moved:
        x, y = moved["shift"]
        print(f"shift      {x:.2f} to the right, {y:.2f} down")
        if alignment.motion == "similarity":
            print(f"scale      {moved['scale']:.4f}")
        print(f"overlap    {moved['overlap']:.3f}")
    for other in hypotheses[1:]:
        print(f"or         {_degrees(other['angle_deg'])} degrees, confidence {other['confidence']:.3f}")
    if mirrored:
        print(printable(f"mirrored   the mirror image of {image} matches better: mirror it, then align again"))


def _degrees(angle: float) -> str:
    return f"{round(angle, 2) + 0.0:.2f}"  # no minus before zero


def _write_aligned(path: Path, alignment: "Alignment", out: Path) -> None:
    """Move the image and keep its colours and its bits, also if it was compared in grey. Drop transparency."""
    import numpy as np
    import torch

    from stnrot.alignment.inputs import read_image
    from stnrot.commands.output import write_image

    original = read_image(path, channels=None)[None]
    highest, kind = (255, np.uint8) if original.dtype is torch.uint8 else (65535, np.uint16)
    scale = 1 if original.dtype is torch.uint8 else highest
    aligned = (alignment.moved(original.float()) * scale).round().clamp(0, highest)[0]
    write_image(aligned.permute(1, 2, 0).squeeze(2).numpy().astype(kind), out)
