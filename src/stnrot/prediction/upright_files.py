"""Turn image files the right way up."""

from collections.abc import Iterator, Sequence
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
from stnrot.runs.tables.growing_table import error_text, model_name
from stnrot.turning.destination import Destination
from stnrot.turning.frame import Frame
from stnrot.turning.turn_file import turned_file

Answer = dict[str, Any]


@dataclass(frozen=True)
class UprightOptions:
    """What to turn.

    Attributes:
        min_confidence: an image whose angle is less certain is left.
        quarter: turn by quarter turns alone.
        tolerance_deg: an angle that is closer to a quarter turn, or to 0, counts as that.
        frame: of an image that is turned by another angle.
        dry_run: write nothing.
    """

    min_confidence: float
    quarter: bool
    tolerance_deg: float
    frame: Frame
    dry_run: bool


def upright_files(
    predictor: ImagePredictor, images: Sequence[Path], destination: Destination, options: UprightOptions
) -> Iterator[Answer]:
    """Yield what is done with each image, in order: plain values.

    The value `action` is one of

    - `turned`, with `angle_deg`, `confidence` and `output`;
    - `upright` and `unsure`: it is left as it is, with `angle_deg` and `confidence`, or copied to a folder;
    - `kept`: there was a result, with `output`. In place: it was turned before;
    - `error`, with `error`.

    Raises:
        InputError: if the model does not predict what the options need.
    """
    model = model_name(predictor.path)
    with destination:
        known = ((path, place, _has(destination, path, place)) for path, place in destination.places(images))
        each, ahead = tee(known)
        to_read = (path for path, _, is_done in ahead if not is_done)
        read = read_and_predict(predictor, to_read, partial(_angles, predictor, options))
        for path, place, is_done in each:
            answer = {"image": str(path)}
            if is_done:
                yield answer | {"action": "kept", "output": str(place)}
            elif isinstance(found := next(read), InputError):
                yield answer | _failed(found)
            else:
                yield answer | _done(path, place, *found, options, destination, model)


def _has(destination: Destination, path: Path, place: Path) -> bool:
    try:
        return destination.has(path, place)
    except (OSError, InputError):  # has its error later
        return False


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
    destination: Destination,
    model: str,
) -> Answer:
    """Turn an image, or leave it; return the answer."""
    angle_deg = snapped(angle_deg, options.tolerance_deg)
    known: Answer = {"angle_deg": round(angle_deg, 2) + 0.0}
    if sure is not None:
        known["confidence"] = round(sure, 4)
    action = "unsure" if sure is not None and sure < options.min_confidence else "turned" if angle_deg else "upright"
    is_written = action == "turned" or destination.takes_all
    try:
        content = turned_file(path, angle_deg, options.frame) if action == "turned" else None
        if is_written and not options.dry_run:
            destination.put(path, place, content, known | {"model": model})
    except InputError as error:
        return _failed(error)
    except OSError as error:
        return _failed(InputError(f"cannot write {place}: {error}; make room on the disk, or allow writing there"))
    return {"action": action} | known | ({"output": str(place)} if is_written else {})


def _failed(error: InputError) -> Answer:
    return {"action": "error", "error": error_text(error)}
