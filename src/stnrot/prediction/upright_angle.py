"""The angle by which an image is turned upright, and whether it is certain enough."""

from typing import Any

import numpy as np
from jaxtyping import Float

from stnrot.prediction.predictions import Predictions

QUARTER = 90.0  # degrees


def upright_angles(
    found: Predictions[Any], quarter: bool
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"] | None]:
    """Return the angle (degrees) that turns each image upright, and the probability that it is right within 45 degrees.

    Args:
        found: what a model that predicts the angle says. Without a posterior there is no probability.
        quarter: choose among quarter turns: the one with the largest probability. Else the best angle.
    """
    angle = np.rad2deg(np.asarray(found.angle, np.float64)[:, 0])
    if found.quarters is None:
        return (QUARTER * (angle / QUARTER).round() if quarter else angle), None
    if quarter:
        probability = np.asarray(found.quarters)
        return QUARTER * probability.argmax(1), probability.max(1)
    return angle.round(4), np.asarray(found.confidence_45)[:, 0]


def snapped(angle_deg: float, tolerance_deg: float) -> float:
    """Return an angle in (-180, 180]: a quarter turn, if it lies within the tolerance of one.

    >>> snapped(268.0, 5.0), snapped(-3.0, 5.0), snapped(20.0, 5.0)
    (-90.0, 0.0, 20.0)
    """
    nearest = QUARTER * round(angle_deg / QUARTER)
    if abs(angle_deg - nearest) <= tolerance_deg:
        angle_deg = nearest
    angle_deg = angle_deg % 360
    return angle_deg - 360 if angle_deg > 180 else angle_deg + 0.0
