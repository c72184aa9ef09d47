"""`stnrot export`: a trained model as one file, compared with the original before it is written."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stnrot.commands.trust import Trust
from stnrot.errors import InputError, needs_extra
from stnrot.printed import printable

EXAMPLES = """
Examples:

- `stnrot export outputs/train/2026-11-29/12-00-00`

- `stnrot export photos --images "pictures/*.jpg" --out photos.onnx`

- `stnrot export best.ckpt --format safetensors --out digits.safetensors`
"""


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Folder of a run of train.py, folder of stnrot publish, checkpoint, photos or digits."
        ),
    ],
    file_format: Annotated[
        Literal["onnx", "pt2", "safetensors"],
        typer.Option(
            "--format",
            help="onnx: for ONNX Runtime and others; stnrot predict runs it without torch. pt2: for torch.export.load; "
            "stnrot does not read it, because reading one can run code. safetensors: the weights, with the "
            "configuration in the metadata; all commands take the file as a model. To give a model away with a card, "
            "use stnrot publish.",
        ),
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(help="New file. [default: model.onnx, model.pt2, ...]")] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES",
            help="File, folder or pattern of images to compare with. Repeat the option for several. [default: "
            "validation images of the run]",
        ),
    ] = None,
    fixed: Annotated[
        bool,
        typer.Option(
            "--fixed-shapes",
            help="The classifier reads all hypotheses of each image, not the likely ones alone: slower, but no "
            "shape in the file depends on the images, which some compilers of models need. pt2 is always so.",
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Convolutions in whole numbers of 8 bits, if 99 % of the answers stay the same."),
    ] = False,
    trust: Trust = None,
) -> int:
    """Write a trained model to one file.

    Original and file are compared on real images. The largest differences are printed. If an angle differs by more than
    0.01 degrees, or a confidence or probability by more than 0.0002, nothing is written. The file takes any number of
    images. Its metadata has the size and the channels of the images, their range, the classes and the convention of the
    angle.
    """
    out = Path(f"model.{file_format}") if out is None else out
    if out.exists() or not out.parent.is_dir():
        raise InputError(f"--out={out}: expected a new file in a folder that exists")
    if out.suffix != f".{file_format}":
        raise InputError(f"--out={out}: expected a name that ends in .{file_format}")
    if int8 and file_format != "onnx":
        raise InputError(f"--int8 came with --format {file_format}: expected --format onnx")
    with needs_extra("stnrot export"):
        from stnrot.export.export_file import export_file

    for line in export_file(run, file_format, out, images, fixed, int8, trust or ()):
        print(printable(line), flush=True)
    return 0
