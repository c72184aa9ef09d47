"""`stnrot upright`: turn image files the right way up."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from stnrot.commands.image_inputs import ImageModel, Images
from stnrot.commands.trust import Trust
from stnrot.errors import InputError, check_number
from stnrot.printed import printable

EXAMPLES = """
Examples:

- `stnrot upright photos --model photos --dry-run` shows what would be done

- `stnrot upright photos --model photos --out upright`

- `stnrot upright "scans/**/*.tif" --model my-model --quarter --in-place`
"""
WORDS = {
    "turned": "turned",
    "upright": "upright",
    "unsure": "unsure",
    "kept": "kept as they were",
    "error": "with an error",
}


def upright(
    images: Images,
    model: ImageModel,
    trust: Trust = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            help="An image is left as it is if it is less probable than this that its angle is right within 45 degrees."
        ),
    ] = 0.9,
    quarter: Annotated[bool, typer.Option("--quarter", help="Turn by quarter turns alone. They lose nothing.")] = False,
    tolerance_deg: Annotated[
        float,
        typer.Option(
            help="An angle that is closer to 0 than this counts as upright, and one that is closer to a quarter turn "
            "as that. In degrees, from 0 to 45."
        ),
    ] = 10.0,
    expand: Annotated[
        bool,
        typer.Option(
            "--expand",
            help="Enlarge an image that is turned by another angle, so that it shows all; its corners are then empty. "
            "Default: cut out the largest upright rectangle that it fills.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Output",
            metavar="DIR",
            help="Folder to write to. The images have the folders there that they have below their common folder. "
            "Images that are not turned are copied, with their time. Run the same command again to resume.",
        ),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            rich_help_panel="Output",
            help="Replace the images that are turned. The table turned.csv beside them keeps the angles. Run the same "
            "command again to resume.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel="Output", help="With --out: replace files that exist there."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel="Output", help="Write nothing; print what would be done.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel="Output", help="Print JSON, a line for each image.")
    ] = False,
) -> int:
    """Turn images the right way up.

    Quarter turns lose nothing: a JPEG file gets another EXIF orientation, and the pixels of PNG, TIFF, WebP, BMP and
    PPM files are transposed. By another angle the pixels are sampled once. EXIF data, ICC profile, resolution and texts
    stay. Images whose angle is not certain enough are left as they are, and listed as unsure. A file that cannot be
    turned has its reason in its line; the exit code is then 1.
    """
    check_number("min_confidence", min_confidence, 0, 1, whole=False)
    check_number("tolerance_deg", tolerance_deg, 0, 45, whole=False)
    _check_options(out, in_place, overwrite, dry_run, expand and quarter)
    from stnrot.prediction.image_list import list_images
    from stnrot.prediction.open_model import open_model
    from stnrot.prediction.upright_files import UprightOptions, upright_files
    from stnrot.runs.tables.growing_table import progress_bar
    from stnrot.turning.destination import InFolder
    from stnrot.turning.places import without_outputs
    from stnrot.turning.record import TurnedInPlace

    found = list_images(images)
    if out is not None and (left_out := len(found) - len(found := without_outputs(found, out))):
        print(printable(f"left out as results: {left_out} in {out}"), file=sys.stderr)
    predictor = open_model(model, trust or ())
    frame: Any = "expand" if expand else "crop"
    options = UprightOptions(min_confidence, quarter, tolerance_deg, frame, dry_run)
    destination = TurnedInPlace() if out is None else InFolder(out, overwrite)
    counts: Counter[str] = Counter()
    with progress_bar(len(found), 0, "upright") as progress:
        for answer in upright_files(predictor, found, destination, options):
            counts[answer["action"]] += 1
            print(json.dumps(answer) if as_json else _line(answer), flush=True)
            progress.advance(progress.task_ids[0])
    if not as_json:
        total = f"{counts.total()} image{'s' * (counts.total() != 1)}"
        parts = [f"{counts[action]} {words}" for action, words in WORDS.items() if counts[action]]
        print(f"{total}: {', '.join(parts)}" + (" (dry run: nothing is written)" if dry_run else ""))
    return int(counts["error"] > 0)


def _check_options(out: Path | None, in_place: bool, overwrite: bool, dry_run: bool, no_corners: bool) -> None:
    if out is not None and in_place:
        raise InputError("--out came with --in-place: expected one of the two; leave one out")
    if out is None and not in_place and not dry_run:
        raise InputError("expected --out DIR, a folder to write to, or --in-place, or --dry-run; give one of them")
    if overwrite and out is None:
        raise InputError("--overwrite came without --out: expected the folder whose files may be replaced; add --out")
    if no_corners:
        raise InputError("--expand came with --quarter, which turns by no other angle: leave one out")


def _line(answer: dict[str, Any]) -> str:
    sure = f", confidence {answer['confidence']:.4f}" if "confidence" in answer else ""
    details = {
        "turned": "turned by {angle_deg:.2f} degrees" + sure,
        "upright": "upright" + sure,
        "unsure": "unsure, left as it is: {angle_deg:.2f} degrees" + sure,
        "kept": "kept: turned before" if answer.get("output") == answer["image"] else "kept: {output} is there",
        "error": "error: {error}",
    }
    return printable(f"{answer['image']}  {details[answer['action']].format(**answer)}")
