"""`stnrot predict`: class and angle of image files."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stnrot.commands.image_inputs import ImageModel, Images
from stnrot.commands.share_option import ShareOption
from stnrot.commands.trust import Trust
from stnrot.errors import InputError
from stnrot.printed import printable

EXAMPLES = """
Examples:

- `stnrot predict photo.jpg scans --model outputs/train/2026-11-29/12-00-00`

- `stnrot predict "scans/**/*.tif" --model my-model --out results.csv`

- `stnrot predict scans --model model.onnx` starts in less than a second, without torch

- `stnrot predict scans --model my-model --out results.csv --save-aligned aligned`

- `stnrot predict scans --model my-model --out part3.csv --share 3/8` on the third of eight machines

- `find . -name "*.png" | stnrot predict - --model best.ckpt --json`
"""


def predict(
    images: Images,
    model: ImageModel,
    trust: Trust = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to write, with the columns image, class, probability, angle_deg, confidence, others, model, "
            "error. Run the same command again to resume, or with further images.",
        ),
    ] = None,
    save_aligned: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the images, rotated upright at their own size, in the folders that they have below their "
            "common folder. Files that exist there are kept.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each image. Without --out.")] = False,
    share: ShareOption = None,
) -> int:
    """Classify images at any angle, and find the angle of each.

    The angle, in degrees counter-clockwise, rotates the image upright. The confidence is the probability that its error
    is below 5 degrees. The column others has further angles, each with its confidence. A column stays empty if the
    model does not predict it. Of a file that holds several images the first is read. A file that cannot be read has the
    reason in the column error; the exit code is then 1.
    """
    if out is not None and as_json:
        raise InputError("--json came with --out: expected one of the two; leave one out")
    from stnrot.prediction.aligned_files import AlignedFiles
    from stnrot.prediction.image_list import list_images
    from stnrot.prediction.open_model import open_model
    from stnrot.prediction.predict_files import predict_files, predict_table
    from stnrot.runs.tables.share import read_share
    from stnrot.turning.places import without_outputs

    part = read_share(share)
    found = list_images(images)
    if save_aligned is not None:
        found = without_outputs(found, save_aligned)
    predictor = open_model(model, trust or ())
    aligned = None if save_aligned is None else AlignedFiles(predictor, found, save_aligned)
    found = part.of(found)  # the places of aligned files depend on all images
    failed = 0
    if out is not None:
        failed = predict_table(predictor, found, out, aligned)
        count = f"{len(found)} image{'s' * (len(found) != 1)}"
        print(printable(f"{count} in {out}") + (f", {failed} with an error: see that column" if failed else ""))
    else:
        for answer in predict_files(predictor, found, aligned):
            failed += "error" in answer
            print(json.dumps(answer) if as_json else _line(answer), flush=True)
    if aligned is not None and aligned.kept:
        print(printable(f"kept in {save_aligned}, because they were there: {aligned.kept}"), file=sys.stderr)
    return int(failed > 0)


def _line(answer: dict[str, Any]) -> str:
    parts = [f"error: {answer['error']}"] if "error" in answer else []
    if "class" in answer:
        parts.append(f"{answer['class']} {answer['probability']:.4f}")
    if "angle_deg" in answer:
        sure = f", confidence {answer['confidence']:.4f}" if "confidence" in answer else ""
        parts.append(f"{answer['angle_deg']:.2f} degrees{sure}")
    return printable(f"{answer['image']}  {'; '.join(parts)}")
