"""`stnrot predict`: class and angle of image files."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stnrot.errors import InputError

EXAMPLES = """
Examples:

- `stnrot predict photo.jpg scans --model outputs/train/2026-11-29/12-00-00`

- `stnrot predict "scans/**/*.tif" --model my-model --out results.csv --save-aligned upright`

- `find . -name "*.png" | stnrot predict - --model best.ckpt --json`
"""


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Image files, folders (with all images below them), patterns in quotes, or - for a list of names on "
            "standard input.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="The model: the folder of a run of train.py, a folder that stnrot publish wrote, a checkpoint, or "
            "photos, which finds the upright of photographs."
        ),
    ],
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE",
            help="Package whose classes the model may build, beside stnrot, torch.nn, torchvision and timm. Its code "
            "runs with your permissions. Repeat the option for several packages.",
        ),
    ] = None,
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
            help="Folder for the images, rotated upright at their own size, as PNG files. It must be new, unless the "
            "table of --out is there to be resumed.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each image. Without --out.")] = False,
) -> int:
    """Classify images at any angle, and find the angle of each.

    The angle, in degrees counter-clockwise, rotates the image upright. The confidence is the probability that its error
    is below 5 degrees. The column others has further angles, each with its confidence. A column stays empty if the
    model does not predict it. A file that cannot be read has the reason in the column error; the exit code is then 1.
    """
    if out is not None and as_json:
        raise InputError("--json came with --out: expected one of the two; leave one out")
    resumes = out is not None and out.exists()
    if save_aligned is not None and not resumes and save_aligned.exists() and any(save_aligned.iterdir()):
        raise InputError(f"--save-aligned {save_aligned}: expected a new or an empty folder; choose another")
    from stnrot.prediction.image_list import check_places, list_images
    from stnrot.prediction.predict_files import predict_files, predict_table
    from stnrot.prediction.predictor import load

    found = list_images(images)
    if save_aligned is not None:
        check_places(found)
    predictor = load(model, trust=trust or ())
    if out is not None:
        failed = predict_table(predictor, found, out, save_aligned)
        print(f"{len(found)} images in {out}" + (f", {failed} with an error: see that column" if failed else ""))
        return int(failed > 0)
    failed = 0
    for row in predict_files(predictor, found, save_aligned):
        failed += bool(row["error"])
        print(json.dumps(_plain(row)) if as_json else _line(row), flush=True)
    return int(failed > 0)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with numbers as numbers, and without empty cells."""
    numbers = ("probability", "angle_deg", "confidence")
    plain: dict[str, Any] = {name: float(text) if name in numbers else text for name, text in row.items() if text}
    if row["others"]:
        pairs = [each.split(":") for each in row["others"].split()]
        plain["others"] = [{"angle_deg": float(a)} | ({"confidence": float(c)} if c else {}) for a, c in pairs]
    return plain


def _line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['image']}  error: {row['error']}"
    parts = [f"{row['class']} {row['probability']}"] if row["class"] else []
    if row["angle_deg"]:
        sure = f", confidence {row['confidence']}" if row["confidence"] else ""
        parts.append(f"{row['angle_deg']} degrees{sure}")
    return f"{row['image']}  {'; '.join(parts)}"
