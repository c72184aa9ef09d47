"""`stnrot align`: the rotation between two images, or between the images of each pair in a table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stnrot.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from stnrot.alignment.aligner import Alignment

MIN_CONFIDENCE = 0.02  # of a further angle that is listed
ALIGN_EXAMPLES = """
Examples:

- `stnrot align image.png reference.png`
- `stnrot align image.png reference.png --out aligned.png --json`

- `stnrot align --manifest pairs.csv --out results.csv --ckpt best.ckpt`
"""


def align(
    image: Annotated[Path | None, typer.Argument(show_default=False, help="Image to rotate.")] = None,
    reference: Annotated[Path | None, typer.Argument(show_default=False, help="Image to align it with.")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            rich_help_panel="Many pairs",
            help="Align the pairs of a table instead. The table has the columns image,reference; paths are relative to "
            "it. Needs --out. Run the same command again to resume. A pair that fails gets a message in the column "
            "error, and the exit code is then 1.",
        ),
    ] = None,
    ckpt: Annotated[
        Path | None,
        typer.Option(metavar="CKPT", rich_help_panel="Model", help="best.ckpt of a run of model=rot_stn, on pairs or not."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel="Output",
            help="File to write: the aligned image or, with --manifest, a table with the columns "
            "line,image,reference,angle_deg,confidence,model,error.",
        ),
    ] = None,
    print_json: Annotated[
        bool, typer.Option("--json", rich_help_panel="Output", help="Print JSON. Only for one pair.")
    ] = False,
) -> int:
    """Find the angle between two images.

    The angle rotates IMAGE, counter-clockwise, onto REFERENCE. The confidence is the probability that the angle is
    right within 5 degrees. Without --ckpt the pixels of the images are correlated: for two images of the same thing.
    With --ckpt the encoder of a trained model compares the images.
    """
    return 0
