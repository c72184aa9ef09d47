"""The angle by which an image is turned upright, and whether it is certain enough."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.models.confidence import confidence
from stnrot.models.outputs import Orientation
from stnrot.models.upright import UPRIGHT_WITHIN

QUARTER = 90.0  # degrees


def upright_angles(orientation: Orientation, quarter: bool) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"] | None]:
    """Return the angle (degrees) that turns each image upright, and the probability that it is right within 45 degrees.

    Args:
        orientation: of the images. Without a posterior there is no probability.
        quarter: choose among quarter turns: the one with the largest probability. Else the best angle.
    """
    angle = orientation.angle[:, :1]
    if orientation.log_posterior is None:
        found = angle[:, 0].double().rad2deg()
        return (QUARTER * (found / QUARTER).round() if quarter else found), None
    if quarter:
        angle = (torch.arange(4, device=angle.device, dtype=angle.dtype) * math.pi / 2).expand(len(angle), 4)
    sure = confidence(Orientation(angle, torch.zeros_like(angle), orientation.log_posterior), UPRIGHT_WITHIN)
    best = sure.argmax(1, keepdim=True)
    degrees = angle.double().rad2deg().gather(1, best)[:, 0].round(decimals=4)
    return degrees, sure.gather(1, best)[:, 0]


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
