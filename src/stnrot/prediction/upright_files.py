"""Turn image files the right way up."""

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stnrot.errors import InputError
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.read_and_predict import read_and_predict
from stnrot.prediction.upright_angle import snapped, upright_angles
from stnrot.runs.growing_table import error_text, model_name
from stnrot.turning.frame import Frame
from stnrot.turning.places import copy_file, is_there, output_places, write_file
from stnrot.turning.record import TurnedInPlace
from stnrot.turning.turn_file import turned_file

Answer = dict[str, Any]


@dataclass(frozen=True)
class UprightOptions:
    """What to turn, and where to.

    Attributes:
        out: folder for the results; None replaces the images.
        min_confidence: an image whose angle is less certain is left.
        quarter: turn by quarter turns alone.
        tolerance_deg: an angle that is closer to a quarter turn, or to 0, counts as that.
        frame: of an image that is turned by another angle.
        overwrite: results that exist.
        dry_run: write nothing.
    """

    out: Path | None
    min_confidence: float
    quarter: bool
    tolerance_deg: float
    frame: Frame
    overwrite: bool
    dry_run: bool


def upright_files(predictor: ImagePredictor, images: Sequence[Path], options: UprightOptions) -> Iterator[Answer]:
    """Yield what is done with each image, in order: plain values.

    The value `action` is one of

    - `turned`, with `angle_deg`, `confidence` and `output`;
    - `upright` and `unsure`: it is left as it is, with `angle_deg` and `confidence`. In the folder `out` it is copied;
    - `kept`: there was a result, with `output`. In place: it was turned before;
    - `error`, with `error`.

    Raises:
        InputError: if the model does not predict what the options need.
    """
    if options.out is None:
        record, places = TurnedInPlace(), _unique(images)
    else:
        record, places = None, list(zip(images, output_places(images, options.out, "out"), strict=True))
    model = model_name(predictor.path)
    with record or nullcontext():
        kept = ((path, place, _is_kept(path, place, options, record)) for path, place in places)
        each, ahead = tee(kept)
        to_read = (path for path, _, known in ahead if known is None)
        read = read_and_predict(predictor, to_read, partial(_angles, predictor, options))
        for path, place, known in each:
            answer = {"image": str(path)}
            if known is not None:
                yield answer | known
            elif isinstance(found := next(read), InputError):
                yield answer | _failed(found)
            else:
                yield answer | _done(path, place, *found, options, record, model)


def _unique(images: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return each file once, also if several links lead to it: it would be turned twice."""
    return list({os.path.realpath(path): (path, path) for path in reversed(images)}.values())[::-1]


def _is_kept(path: Path, place: Path, options: UprightOptions, record: TurnedInPlace | None) -> Answer | None:
    """Return the answer for an image that is not looked at, or None."""
    try:
        done = record.has(path) if record is not None else not options.overwrite and is_there(place)
    except (OSError, InputError):  # has its error later
        return None
    return {"action": "kept", "output": str(place)} if done else None


def _angles(
    predictor: ImagePredictor, options: UprightOptions, images: UInt8[np.ndarray, "B C H W"]
) -> Iterator[tuple[float, float | None]]:
    """Return the angle and the confidence of each image; no confidence without a posterior."""
    answers = predictor.predict_pixels(images)
    answers.check_finite(predictor.path)
    if answers.angle is None:
        raise InputError(f"model={predictor.path} does not predict an angle: expected one such as model=rot_stn")
    if answers.quarters is None and options.min_confidence > 0:
        raise InputError(
            f"model={predictor.path} has no confidence, because its encoder predicts the angle alone: expected "
            "--min-confidence 0, which turns every image, or a model with encoder=polar or p4"
        )
    angle, sure = upright_angles(answers, options.quarter)
    return zip(angle.tolist(), [None] * len(angle) if sure is None else sure.tolist(), strict=True)


def _done(
    path: Path,
    place: Path,
    angle_deg: float,
    sure: float | None,
    options: UprightOptions,
    record: TurnedInPlace | None,
    model: str,
) -> Answer:
    """Turn an image, or leave it; return the answer."""
    angle_deg = snapped(angle_deg, options.tolerance_deg)
    known: Answer = {"angle_deg": round(angle_deg, 2) + 0.0}
    if sure is not None:
        known["confidence"] = round(sure, 4)
    action = "unsure" if sure is not None and sure < options.min_confidence else "turned" if angle_deg else "upright"
    if action == "turned" or options.out is not None:
        known["output"] = str(place)
    try:
        content = turned_file(path, angle_deg, options.frame) if action == "turned" else None
        if options.dry_run or "output" not in known:
            return {"action": action} | known
        if content is None:
            copy_file(path, place)
        elif record is None:
            write_file(content, place, like=path)
        else:
            numbers = {name: known[name] for name in ("angle_deg", "confidence") if name in known}
            record.replace(path, content, {"model": model, "confidence": ""} | numbers)
    except InputError as error:
        return _failed(error)
    except OSError as error:
        return _failed(InputError(f"cannot write {place}: {error}; make room on the disk, or allow writing there"))
    return {"action": action} | known


def _failed(error: InputError) -> Answer:
    return {"action": "error", "error": error_text(error)}
