"""How probable it is that a predicted angle is right."""

import math

from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.angles import upsample_log_density
from stnrot.geometry.constants import offsets
from stnrot.geometry.tails import exp
from stnrot.models.outputs import Orientation

TOLERANCE = math.radians(5)  # an angle that is off by less counts as right
BINS = 512  # of the posterior, at least; a bin is then less than a degree


def confidence(orientation: Orientation, tolerance: float = TOLERANCE) -> Float[Tensor, "B K"]:
    """Return for each angle the posterior probability that its error is below a tolerance.

    A bin that the tolerance cuts counts by the part inside, so the result is continuous in the angle.

    Args:
        orientation: prediction of an encoder that searches.
        tolerance: radians; 5 degrees by default.
    """
    assert orientation.log_posterior is not None
    log_density = orientation.log_posterior
    if log_density.shape[1] < BINS:
        log_density = upsample_log_density(log_density, BINS)
    posterior = exp(log_density)
    bins = posterior.shape[1]
    width, angle = 2 * math.pi / bins, orientation.angle[..., None]
    reach = math.ceil(tolerance / width + 0.5)
    place = (angle / width).round() + offsets(reach, angle.device)
    inside = ((tolerance - (place * width - angle).abs()) / width + 0.5).clamp(0, 1)
    place = place.long() % bins
    mass = posterior.gather(1, place.flatten(1)).view_as(place)
    return (mass * inside).sum(-1).clamp(max=1)
