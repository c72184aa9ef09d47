"""How far an exported model is from the original, and on which images that is measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from stnrot.data.rng import Split
from stnrot.errors import InputError, reason_of
from stnrot.prediction.image_list import list_images
from stnrot.prediction.predictions import Predictions
from stnrot.prediction.predictor import Predictor
from stnrot.runs.allowed_targets import ASK, check_targets

IMAGES = 256  # that are compared, at most
MOST_DEG, MOST = 0.01, 2e-4  # of angles, and of confidences and probabilities
TURN_DEG = 360.0


def differences(found: Predictions[Any], expected: Predictions[Any]) -> dict[str, float]:
    """Return the largest difference of each number over all images. That of the angle is in degrees."""
    largest = {}
    for name in ("angle", "confidence", "confidence_45", "quarters", "probability"):
        ours, theirs = (getattr(each, name) for each in (found, expected))
        if theirs is not None:
            off = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
            largest[name] = float((_arc_deg(off) if name == "angle" else off).max())
    return largest


def check_parity(found: Predictions[Any], expected: Predictions[Any], what: str) -> str:
    """Return the differences in words.

    Raises:
        InputError: if one is too large.
    """
    largest = differences(found, expected)
    words = ", ".join(f"{name} {off:.1e}{' degrees' if name == 'angle' else ''}" for name, off in largest.items())
    if not all(off <= (MOST_DEG if name == "angle" else MOST) for name, off in largest.items()):  # also NaN
        raise InputError(
            f"the exported model differs from the original on {what}: {words}; expected at most {MOST_DEG} degrees and "
            f"{MOST}; nothing is written"
        )
    return f"largest difference on {what}: {words}"


def agreement(found: Predictions[Any], expected: Predictions[Any]) -> dict[str, float]:
    """Return the share of images with the same class, and of those whose first angles differ by at most a degree."""
    shares = {}
    if expected.probability is not None:
        same = np.equal(found.label or [], expected.label or [])
        shares["same class"] = float(same.mean())
    if expected.angle is not None:
        off = np.abs(np.asarray(found.angle)[:, 0] - np.asarray(expected.angle)[:, 0])
        shares["angle within 1 degree"] = float((_arc_deg(off) <= 1).mean())
    return shares


def real_images(
    predictor: Predictor, config: dict[str, Any], names: Sequence[str] | None, trust: Iterable[str]
) -> tuple[Float[Tensor, "N C H W"], str]:
    """Return images to compare with, and what they are.

    Args:
        predictor: the original.
        config: of its run.
        names: files, folders or patterns; None takes validation images of the run.
        trust: packages that the data of the run may come from.

    Raises:
        InputError: if there are none.
    """
    if names is not None:
        paths = list_images(names)[:IMAGES]
        images = torch.from_numpy(np.stack([predictor.decoding.read(path) for path in paths])) / 255
        return images, f"{len(images)} given image{'s' * (len(images) > 1)}"
    try:
        images = _validation_images(config["data"], trust)
    except (InputError, OSError) as error:
        raise InputError(
            f"the validation images of {predictor.path} cannot be read ({reason_of(error)}): name some images of the "
            "kind that the model is for with --images"
        ) from error
    return images, f"{len(images)} validation images"


def _validation_images(config: dict[str, Any], trust: Iterable[str]) -> Float[Tensor, "N C H W"]:
    root = config.get("root")
    if root is not None and not Path(root).expanduser().exists():  # a source would download them
        raise InputError(f"there is no {root}")
    check_targets(config, "data", trust, ASK)
    try:
        data = instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise InputError(reason_of(error.__cause__ or error)) from error
    data.setup()
    dataset = data.dataset(Split.VAL)
    raw = dataset.__getitems__(torch.arange(min(IMAGES, len(dataset))))
    return data.view(raw, Split.VAL).image


def _arc_deg(off: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the shorter arc, in degrees, between angles that differ by so many radians."""
    turned = np.rad2deg(off) % TURN_DEG
    return np.minimum(turned, TURN_DEG - turned)
