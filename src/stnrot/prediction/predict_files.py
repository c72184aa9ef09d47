"""Predict for any number of image files."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from stnrot.errors import InputError
from stnrot.prediction.aligned_files import AlignedFiles
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.read_and_predict import read_and_predict
from stnrot.runs.tables.growing_table import (
    Row,
    check_same,
    csv_line,
    error_text,
    locked,
    model_name,
    progress_bar,
    read_rows,
    replace_rows,
)

COLUMNS = ("image", "class", "probability", "angle_deg", "confidence", "others", "model", "error")


def predict_files(
    predictor: ImagePredictor, images: Sequence[Path], aligned: AlignedFiles | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what the model says about each image, in order: plain values by the names of `COLUMNS`.

    What the model does not predict is left out. Of a file that cannot be read there is only the error. `others` are
    further angles, each with its confidence. An aligned file that cannot be written gives an error, too.
    """
    found = read_and_predict(predictor, images, partial(_answers, predictor))
    for path, answer in zip(images, found, strict=True):
        values: dict[str, Any] = {"error": error_text(answer)} if isinstance(answer, InputError) else answer
        if aligned and "error" not in values and (error := aligned.write(str(path), values["angle_deg"])):
            values["error"] = error
        yield {"image": str(path)} | values


def predict_table(
    predictor: ImagePredictor, images: Sequence[Path], out: Path, aligned: AlignedFiles | None = None
) -> int:
    """Write the table `out`; return the number of its new rows with an error.

    If the table exists, its rows stay, except for those with an error whose images are given again. Only images that it
    does not have then are read. Aligned files that it lacks are written with the angles of its rows.
    """
    model, names = model_name(predictor.path), {str(path) for path in images}
    failed = 0
    try:
        with locked(out):
            rows = [row for row in read_rows(out, COLUMNS) if not (row["error"] and row["image"] in names)]
            for row in rows:
                check_same(out, row, {"model": model})
            finished = {row["image"] for row in rows}
            missing = [path for path in images if str(path) not in finished]
            not_aligned = [(row, _angle_deg(out, row)) for row in rows if aligned and aligned.lacks(row["image"])]
            done = len(images) - len(missing) - len(not_aligned)
            with progress_bar(len(images), done, "predict") as progress:
                for row, angle_deg in not_aligned:
                    row["error"] = (aligned and aligned.write(row["image"], angle_deg)) or ""
                    failed += bool(row["error"])
                    progress.advance(progress.task_ids[0])
                replace_rows(out, rows, COLUMNS)
                with out.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                    for answer in predict_files(predictor, missing, aligned):
                        file.write(csv_line(_texts(answer) | {"model": model}, COLUMNS))
                        file.flush()
                        failed += "error" in answer
                        progress.advance(progress.task_ids[0])
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
    return failed


def _answers(predictor: ImagePredictor, images: UInt8[np.ndarray, "B C H W"]) -> Iterator[dict[str, Any]]:
    """Yield the predictions for each image as plain numbers."""
    found = predictor.predict_pixels(images)
    found.check_finite(predictor.path)
    columns: dict[str, list[Any]] = {}
    if found.probability is not None and found.label is not None:
        columns |= {"class": found.label, "probability": _rounded(np.asarray(found.probability).max(1), 4)}
    if found.angle is not None:
        columns["angle_deg"] = _rounded(np.rad2deg(np.asarray(found.angle, np.float64)), 2)
        if found.confidence is not None:
            columns["confidence"] = _rounded(np.asarray(found.confidence), 4)
    for values in zip(*columns.values(), strict=True):
        answer = dict(zip(columns, values, strict=True))
        hypotheses = {name: answer.pop(name) for name in ("angle_deg", "confidence") if name in answer}
        each = [dict(zip(hypotheses, one, strict=True)) for one in zip(*hypotheses.values(), strict=True)]
        yield answer | (each[0] | {"others": each[1:]} if each else {})


def _rounded(values: Float[np.ndarray, "*n"], digits: int) -> list[Any]:
    """Return numbers, without a minus before zero."""
    return (values.astype(np.float64).round(digits) + 0.0).tolist()


def _angle_deg(out: Path, row: Row) -> float:
    """Return the angle of a row of the table `out`, which somebody may have edited."""
    try:
        angle_deg = float(row["angle_deg"])
    except ValueError:
        angle_deg = math.nan
    if not math.isfinite(angle_deg):
        raise InputError(
            f"{out}: the row of {row['image']} has angle_deg={row['angle_deg']}: expected a number, such as 0.1; "
            "correct it, or delete the row, and the image is predicted again"
        )
    return angle_deg


def _texts(answer: dict[str, Any]) -> Row:
    """Return an answer as cells of the table."""
    others = [":".join(map(str, each.values())) for each in answer.get("others", ())]
    return dict.fromkeys(COLUMNS, "") | answer | {"others": " ".join(others)}
