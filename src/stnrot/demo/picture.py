"""What the page shows of the pictures that one drops: turned, upright or aligned, with the dial and a text."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from stnrot.alignment.aligner import align
from stnrot.data.image_file import to_8_bit
from stnrot.demo.dial import dial
from stnrot.errors import InputError
from stnrot.geometry import inscribed_disc, rotate
from stnrot.image_kinds import to_floats
from stnrot.prediction.predictor import Predictor

SIDE, LEAST = 512, 8  # pixels: at most, of what is shown; at least, of a picture
MOTIONS = ("rotation", "rigid", "similarity")


def one_picture(predictor: Predictor, given: Image.Image, clockwise: float) -> tuple[Any, ...]:
    """Turn a picture and read it: what the model sees, the upright picture, the dial, a text and the classes.

    Args:
        clockwise: radians.
    """
    whole = _square(given)
    turned = _rotated(whole, -clockwise)
    found = predictor(Image.fromarray(_picture(turned)))  # a picture: a model of grey images takes it, too
    if found.angle is None:
        return _picture(turned), None, None, "The model does not predict an angle.", _classes(found)
    angle = float(found.angle[0, 0])
    posterior = None if found.log_posterior is None else found.log_posterior[0]
    sure = None if found.confidence is None else float(found.confidence[0, 0])
    upright = _rotated(whole, angle - clockwise)  # sampled once
    drawing = dial(angle, posterior, clockwise)
    return _picture(turned), _picture(upright), drawing, _text(angle, sure), _classes(found)


def two_pictures(given: Image.Image, reference: Image.Image, motion: Any) -> tuple[Any, ...]:
    """Align a picture with another: the aligned picture, the dial and a text.

    Args:
        motion: one of MOTIONS.
    """
    pair = [to_8_bit(each, 3) for each in (given, reference)]
    for each in pair:
        each.thumbnail((SIDE, SIDE))
    found = align(*pair, motion=motion)
    angle = float(found.angle[0])
    lines = [_text(angle, float(found.confidence[0]))]
    if motion != "rotation":
        x, y = found.shift[0].tolist()
        lines.append(f"Shifted by {x:.1f} pixels to the right and {y:.1f} down; scale {float(found.scale[0]):.3f}.")
    posterior = found.orientation.log_posterior
    return found.aligned, dial(angle, None if posterior is None else posterior[0]), "\n\n".join(lines)


def _text(angle: float, sure: float | None) -> str:
    """Return an angle (radians) and its confidence in words."""
    text = f"Rotate by **{math.degrees(angle):.1f}** degrees counter-clockwise"
    return text + ("." if sure is None else f"; right within 5 degrees with probability {sure:.2f}.")


def _classes(found: Any) -> dict[str, float] | None:
    if found.probability is None:
        return None
    return dict(zip(found.classes, found.probability[0].tolist(), strict=True))


def _square(given: Image.Image) -> Float[Tensor, "1 3 S S"]:
    """Return the middle square of a picture, at most SIDE pixels wide."""
    side = min(given.size)
    if side < LEAST:
        raise InputError(f"The picture is {given.width} x {given.height} pixels: expected sides of at least {LEAST}.")
    left, top = (given.width - side) // 2, (given.height - side) // 2
    middle = to_8_bit(given, 3).crop((left, top, left + side, top + side))
    if side > SIDE:
        middle = middle.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return to_floats(middle, "picture").colours


def _rotated(whole: Float[Tensor, "1 3 S S"], angle: float) -> Float[Tensor, "1 3 S S"]:
    """Rotate a picture counter-clockwise by an angle (radians), and black out what lies outside its disc."""
    turned = rotate(whole, torch.tensor([angle], dtype=whole.dtype), "bicubic").clamp(0, 1)
    return turned * inscribed_disc(turned.shape[-2:], turned.device)


def _picture(image: Float[Tensor, "1 3 S S"]) -> UInt8[np.ndarray, "S S 3"]:
    return (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
