"""What the correlation of two pictures says of the angle between them: a posterior, and its refined peaks."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.geometry import AngularCorrelation, circular_peaks, wrap
from stnrot.models.outputs import Orientation

BINS = 512  # of the posterior, at least: less than a degree
NEAR = math.radians(12)  # of the peak: what belongs to it, and not to chance
STEPS = 2  # of Newton: from the vertex of a parabola through such bins the last moves by rounding
CLEAR = 0.5  # share of the variance that an angle must explain to be refined
# Chosen for the least calibration error on other photographs and digits than the benchmark's, a fifth unrelated:
MATCHING = 3.0  # prior odds that two pictures match
NEGATIVE = 0.05  # prior probability that one of two that match is a negative


def log_posterior(correlation: AngularCorrelation) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B 1"]]:
    r"""Return the logarithm of a posterior in equal bins of the circle, and the share of variance that is explained.

    If the reference is the turned image with another contrast, and Gaussian noise on nu independent pixels, both of
    unknown size, an angle with the correlation s has the profile likelihood

        L(angle) = (1 - s(angle)^2)^(-nu / 2),

    over that of a reference that has nothing to do with the image. How many pixels of a picture are independent is not
    known either; but at wrong angles s is there by chance, and then has the variance 1 / nu. So nu is one over the mean
    of s^2 away from the highest peak. The posterior weighs the two:

        p(angle) ~ MATCHING prior(angle) L(angle) / sqrt(nu) + 1,

    where sqrt(nu) is the price of the fitted contrast (G. Schwarz, Estimating the dimension of a model, 1978), and
    `prior` is 1 or, for a negative (s < 0), NEGATIVE. A picture that resembles itself at many angles, or an unrelated
    one, gives a flat posterior. (Not one of a few bright spots on plain ground: two such may well match by chance, and
    nothing in them says so.) The share that is explained is the highest s^2.
    """
    bins = max(BINS, 2 * correlation.coefficient.shape[1] + 2)
    s = correlation.sampled(bins)
    explained = s.square().clamp(max=1 - 1e-6)
    share, place = explained.max(1, keepdim=True)
    away = (torch.arange(bins, device=place.device) - place) * (2 * math.pi / bins)
    chance = wrap(away.to(share.dtype)).abs() > NEAR
    pixels = chance.sum(1, keepdim=True) / (explained * chance).sum(1, keepdim=True).clamp(min=1e-6)
    odds = MATCHING * torch.where(s < 0, NEGATIVE, 1.0) / pixels.sqrt()
    matching = odds.log() - pixels / 2 * torch.log1p(-explained)
    return torch.logaddexp(matching, torch.zeros_like(matching)).log_softmax(1), share


def peaks(
    log_density: Float[Tensor, "B A"], hypotheses: int
) -> tuple[Float[Tensor, "B {hypotheses}"], Float[Tensor, "B {hypotheses}"]]:
    """Return the angles and log-weights of the highest maxima; what lies within half of `NEAR` belongs to one."""
    width = 2 * math.pi / log_density.shape[1]
    return circular_peaks(log_density, hypotheses, round(NEAR / 2 / width))


def refine_peaks(correlation: AngularCorrelation, log_density: Float[Tensor, "B A"], hypotheses: int) -> Orientation:
    """Return the highest peaks of a posterior, refined by Newton steps on the photometric error `1 - s^2`.

    A refined angle is kept if its error is lower, and below one half: where turning the image explains less, the error
    is not least at the right angle. It moves by a bin at most: which peak it is the posterior says.
    """
    width = 2 * math.pi / log_density.shape[1]
    start, log_weight = peaks(log_density, hypotheses)
    moved = torch.zeros_like(start)
    s, slope, bend = correlation.value_and_derivatives(start)
    before = s.square()
    for _ in range(STEPS):
        gradient, curvature = s * slope, s * bend + slope**2
        step = torch.where(curvature < 0, -gradient / curvature.clamp(max=-1e-9), 0.0)
        moved = (moved + step).clamp(-width, width)
        s, slope, bend = correlation.value_and_derivatives(start + moved)
    kept = (s.square() > before) & (s.square() > CLEAR)
    return Orientation(wrap(torch.where(kept, start + moved, start)), log_weight, log_density)
