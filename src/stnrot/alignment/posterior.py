"""The posterior over the angle between two images: from their correlation, fused with an encoder, and its peaks."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry.angles import circular_peaks, upsample_log_density, wrap
from stnrot.geometry.constants import constant, offsets
from stnrot.geometry.correlation import AngularCorrelation
from stnrot.geometry.tails import exp
from stnrot.models.outputs import Orientation

TOLERANCE = math.radians(5)  # an angle that is off by less counts as right
BINS = 512  # of the posterior, at least; a bin is then less than a degree
PEAK_WIDTH = math.radians(12)  # within it of the highest peak, s^2 belongs to the peak, not to chance
NEWTON_STEPS = 2  # from the vertex of a parabola through bins of this size, a third step would only move by rounding
MIN_EXPLAINED = 0.5  # share of the variance that an angle must explain to be refined
MIRROR_ODDS = 10.0  # of a mirror image against the image, from which it counts as mirrored
ROUNDING = 16  # of s^2, times the machine epsilon
# The two priors minimise the calibration error on photographs and digits, a fifth of the pairs unrelated. The benchmark
# uses other images.
MATCH_ODDS = 3.0  # prior odds that two images match
NEGATIVE_PRIOR = 0.05  # prior probability that one of two matching images is a negative


def log_posterior(correlation: AngularCorrelation) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B 1"]]:
    r"""Return the log-posterior in A equal bins of the circle, and the share of variance that the best angle explains.

    Model: the reference is the rotated image with another contrast, plus Gaussian noise on nu independent pixels.
    Contrast and noise level are unknown. An angle with the correlation s then has the profile likelihood

        L(angle) = (1 - s(angle)^2)^(-nu / 2),

    relative to a reference that is unrelated to the image. The number nu of independent pixels is unknown too. At wrong
    angles s is not zero only by chance, and its variance is 1 / nu. So nu is estimated as one over the mean of s^2 away
    from the highest peak. The posterior weighs the matching against the unrelated case:

        p(angle) ~ MATCH_ODDS prior(angle) L(angle) / sqrt(nu) + 1,

    where 1 / sqrt(nu) is the penalty for the fitted contrast (G. Schwarz, Estimating the dimension of a model, 1978),
    and `prior` is 1 or, for a negative (s < 0), NEGATIVE_PRIOR. The explained share is the highest s^2.

    An image that resembles itself at many angles, or an unrelated one, gives a flat posterior. Exception: images of a
    few bright spots on plain ground may match by chance, and the posterior cannot detect it.
    """
    matching, share = _log_odds(correlation)
    return F.softplus(matching, threshold=40).log_softmax(1), share


def _log_odds(correlation: AngularCorrelation) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B 1"]]:
    """Return the log-odds of a match at each angle against unrelated images, and the highest s^2 (`log_posterior`)."""
    bins = max(BINS, 2 * correlation.coefficient.shape[1] + 2)
    s = correlation.sampled(bins)
    explained = s.square().clamp(max=1 - 1e-6)
    share, place = explained.max(1, keepdim=True)
    away, others = _away(bins, s.device, s.dtype)
    chance = (explained * away[bins - place[:, 0]]).sum(1, keepdim=True)  # s^2 at wrong angles, summed
    pixels = others / chance.clamp(min=1e-6)
    scale = math.log(MATCH_ODDS) - 0.5 * pixels.log()
    prior = torch.where(s < 0, scale + math.log(NEGATIVE_PRIOR), scale)
    return torch.addcmul(prior, pixels, torch.log1p(-explained), value=-0.5), share


@constant
def _away(
    bins: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "rows {bins}"], Float[Tensor, ""]]:
    """Return 1 for each bin further than PEAK_WIDTH from a peak, else 0, and how many these are.

    Row `bins - i` belongs to a peak in bin i.
    """
    distance = torch.arange(2 * bins, device=device) % bins * (2 * math.pi / bins)
    away = (wrap(distance).abs() > PEAK_WIDTH).to(dtype)
    return away.unfold(0, bins, 1), away[:bins].sum()


def is_mirrored(plain: AngularCorrelation, mirrored: AngularCorrelation) -> Bool[Tensor, "B"]:
    """Return whether the reference matches the mirror image of the image better than the image.

    The evidence for a match is the mean over all angles of its odds against unrelated images (`log_posterior`). The
    mirror image must have MIRROR_ODDS times the evidence of the image, and of unrelated images.

    `benchmarks/mirrored.py` measures how often it is right.

    Args:
        plain: correlation of image and reference.
        mirrored: correlation of the mirror image and the reference.
    """
    evidence = [
        torch.logsumexp(odds, 1) - math.log(odds.shape[1]) for odds in (_log_odds(plain)[0], _log_odds(mirrored)[0])
    ]
    return evidence[1] > evidence[0].clamp(min=0) + math.log(MIRROR_ODDS)


def peaks(
    log_density: Float[Tensor, "B A"], hypotheses: int
) -> tuple[Float[Tensor, "B {hypotheses}"], Float[Tensor, "B {hypotheses}"]]:
    """Return the angles and log-weights of the highest maxima; each stands for all within PEAK_WIDTH / 2 of it."""
    bin_width = 2 * math.pi / log_density.shape[1]
    return circular_peaks(log_density, hypotheses, round(PEAK_WIDTH / 2 / bin_width))


def refine_peaks(correlation: AngularCorrelation, log_density: Float[Tensor, "B A"], hypotheses: int) -> Orientation:
    """Return the highest peaks of a posterior, refined by Newton steps on the photometric error `1 - s^2`.

    A refined angle is kept if its error is not higher than before, up to rounding, and below 1 - MIN_EXPLAINED. Where
    rotation explains less of the variance, the minimum of the error is not at the right angle. An angle moves by at
    most one bin: the posterior decides which peak it is.
    """
    bin_width = 2 * math.pi / log_density.shape[1]
    start, log_weight = peaks(log_density, hypotheses)
    shift = torch.zeros_like(start)
    s, slope, bend = correlation.value_and_derivatives(start)
    before = s.square()
    for _ in range(NEWTON_STEPS):
        curvature = torch.addcmul(s * bend, slope, slope)
        moved = torch.addcdiv(shift, s * slope, curvature.clamp(max=-1e-9), value=-1)
        shift = torch.where(curvature < 0, moved, shift).clamp(-bin_width, bin_width)
        refined = start + shift
        s, slope, bend = correlation.value_and_derivatives(refined)
    after = s.square()
    better = (after > before - ROUNDING * torch.finfo(s.dtype).eps) & (after > MIN_EXPLAINED)
    return Orientation(wrap(torch.where(better, refined, start)), log_weight, log_density)


def fuse_posteriors(orientation: Orientation, correlation: AngularCorrelation, hypotheses: int) -> Orientation:
    r"""Fuse the posteriors of the encoder and of the pixels, and refine the peaks (`refine_peaks`).

        log p(angle) = log p_encoder(angle) + share * log p_pixels(angle) + constant

    `share` is the share of the reference's variance that the best angle explains (`log_posterior`). It is near 1 if
    image and reference differ only in rotation, contrast and a little noise. It is near 0 if the object is occluded,
    shifted or very noisy: `log_posterior` does not model these cases and would be biased. This is a heuristic, since
    both posteriors come from the same pixels.

    The result replaces the encoder's only where it lowers the photometric error inside the inscribed disc.
    """
    log_pixels, share = log_posterior(correlation)
    assert orientation.log_posterior is not None
    log_encoder = upsample_log_density(orientation.log_posterior, log_pixels.shape[1])
    encoder = Orientation(orientation.angle, orientation.log_weight, log_encoder)
    fused = refine_peaks(correlation, (log_encoder + share * log_pixels).log_softmax(1), hypotheses)
    before, after = (correlation.value_and_derivatives(each.angle[:, :1])[0].square() for each in (encoder, fused))
    return Orientation.where((after > before)[:, 0], fused, encoder)


def confidence(orientation: Orientation) -> Float[Tensor, "B K"]:
    """Return for each angle the posterior probability that its error is below 5 degrees."""
    assert orientation.log_posterior is not None
    log_density = orientation.log_posterior
    if log_density.shape[1] < BINS:
        log_density = upsample_log_density(log_density, BINS)
    posterior = exp(log_density)
    bins = posterior.shape[1]
    width, angle = 2 * math.pi / bins, orientation.angle[..., None]
    reach = math.ceil(TOLERANCE / width)
    place = (angle / width).round() + offsets(reach, angle.device)
    inside = (place * width - angle).abs() <= TOLERANCE
    place = place.long() % bins
    mass = posterior.gather(1, place.flatten(1)).view_as(place)
    return (mass * inside).sum(-1).clamp(max=1)
