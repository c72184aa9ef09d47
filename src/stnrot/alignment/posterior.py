"""The posterior over the angle between two images: from their correlation, fused with an encoder, and its peaks."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry.angles import circular_peaks, upsample_log_density, wrap
from stnrot.geometry.constants import constant
from stnrot.geometry.correlation import AngularCorrelation
from stnrot.models.confidence import BINS
from stnrot.models.outputs import Orientation

PEAK_WIDTH = math.radians(12)  # within it of the highest peak, s^2 belongs to the peak, not to chance
NEWTON_STEPS = 2  # from the vertex of a parabola through bins of this size, a third step would only move by rounding
MIN_EXPLAINED = 0.5  # share of the variance that an angle must explain to be refined
MIRROR_ODDS = 10.0  # of a mirror image against the image, from which it counts as mirrored
MIRROR_RATIO = 5.0  # the same for the odds of the pixels alone
ROUNDING = 16  # of s^2, times the machine epsilon
# The two were fitted to pairs of spots, and to pairs of digits and photographs of all levels of the benchmark, also
# shifted ones: its pairs of seed 0, and pairs of other digits and photographs. It reports on seed 1.
EVEN = 19.0  # F at which a match is as likely as not (`_log_odds`)
SHARPNESS = 1.5  # exponent of the likelihood of the pixels (`log_posterior`)
MATCH_ODDS = 3.0  # prior odds that two images match, where an encoder has its own posterior (`fuse_posteriors`)
NEGATIVE_PRIOR = 0.05  # prior probability that one of two matching images is a negative


def pixel_orientation(correlation: AngularCorrelation, hypotheses: int) -> Orientation:
    """Return the highest peaks of the likelihood of the pixels, refined, and the posterior (`log_posterior`)."""
    likelihood, share, _ = log_likelihood(correlation)
    angle, log_weight = refine_peaks(correlation, likelihood, hypotheses)
    return Orientation(angle, log_weight, log_posterior(likelihood, _log_odds(correlation, share)))


def log_likelihood(
    correlation: AngularCorrelation,
) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
    r"""Return how likely each of A equal bins of the circle is if the images match, and the explained share.

    Model: the reference is the rotated image with another contrast, plus Gaussian noise on nu independent pixels.
    Contrast and noise level are unknown. An angle with the correlation s then has the profile likelihood

        L(angle) = prior (1 - s(angle)^2)^(-nu / 2),

    where `prior` is 1 or, for a negative (s < 0), NEGATIVE_PRIOR. The number nu of independent pixels is unknown too.
    At wrong angles s is not zero only by chance, and its variance is 1 / nu. So nu is estimated as one over the mean
    of s^2 away from the highest peak. The explained share is the highest s^2.

    Returns:
        The logarithm of the likelihoods, the share, and nu.
    """
    bins = _bins(correlation)
    s = correlation.sampled(bins)
    explained = s.square().clamp(max=1 - 1e-6)
    share, place = explained.max(1, keepdim=True)
    away, others = _away(bins, s.device, s.dtype)
    chance = (explained * away[bins - place[:, 0]]).sum(1, keepdim=True)  # s^2 at wrong angles, summed
    pixels = others / chance.clamp(min=1e-6)
    prior = (s < 0).to(s.dtype) * math.log(NEGATIVE_PRIOR)
    return torch.addcmul(prior, pixels, torch.log1p(-explained), value=-0.5), share, pixels


def log_posterior(likelihood: Float[Tensor, "B A"], log_odds: Float[Tensor, "B 1"]) -> Float[Tensor, "B A"]:
    r"""Return the log-posterior: sharp if the images match, and flat if they do not.

        p(angle) = P(match) L(angle)^SHARPNESS / sum L^SHARPNESS + (1 - P(match)) / A

    Noise has finer details than the images. The number of independent pixels, and with it L, is then estimated too low:
    the exponent corrects it.

    An image that resembles itself at many angles, or an unrelated one, has a flat posterior.

    Args:
        likelihood: log L (`log_likelihood`).
        log_odds: of a match.
    """
    matching = (SHARPNESS * likelihood).log_softmax(1)
    times_flat = matching + (log_odds + math.log(likelihood.shape[1]))
    return F.softplus(times_flat.clamp(min=-30), threshold=40).log_softmax(1)  # below -87 softplus is subnormal


def _bins(correlation: AngularCorrelation) -> int:
    return max(BINS, 2 * correlation.coefficient.shape[1] + 2)


def _log_odds(correlation: AngularCorrelation, share: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
    r"""Return the log-odds that the images match at the best angle, which explains a share of the variance.

    The sum of the likelihoods is too high or too low by many powers of ten: real images do not differ by independent
    noise alone, but by a shift, an occlusion, a deformation. The odds are instead

        odds = (F / EVEN)^2,  F = details share / (1 - share).

    F is the ratio of explained and unexplained variance (R. A. Fisher, Statistical Methods for Research Workers, 1925),
    up to a constant. `details` is the number of independent details (`correlate`). A few bright spots on plain ground
    have few, and often match by chance. The power 2 is rounded; the fit gives 2.06. An angle that is off by more than
    5 degrees counts as no match, which is frequent among images that are shifted.
    """
    return 2 * (share.logit(1e-6) + (correlation.details[:, None] / EVEN).log())


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

    The mirror image must have MIRROR_RATIO times the odds of the image (`_log_odds`), and at least MIRROR_RATIO.

    `benchmarks/mirrored.py` measures how often it is right.

    Args:
        plain: correlation of image and reference.
        mirrored: correlation of the mirror image and the reference.
    """
    odds, mirror_odds = (
        _log_odds(each, each.sampled(_bins(each)).square().amax(1, keepdim=True))[:, 0] for each in (plain, mirrored)
    )
    return mirror_odds > odds.clamp(min=0) + math.log(MIRROR_RATIO)


def peaks(
    log_density: Float[Tensor, "B A"], hypotheses: int
) -> tuple[Float[Tensor, "B {hypotheses}"], Float[Tensor, "B {hypotheses}"]]:
    """Return the angles and log-weights of the highest maxima; each stands for all within PEAK_WIDTH / 2 of it."""
    bin_width = 2 * math.pi / log_density.shape[1]
    return circular_peaks(log_density, hypotheses, round(PEAK_WIDTH / 2 / bin_width))


def refine_peaks(
    correlation: AngularCorrelation, log_density: Float[Tensor, "B A"], hypotheses: int
) -> tuple[Float[Tensor, "B {hypotheses}"], Float[Tensor, "B {hypotheses}"]]:
    """Return the angles and log-weights of the highest peaks, refined by Newton steps on the photometric error 1 - s^2.

    A refined angle is kept if its error is not higher than before, up to rounding, and below 1 - MIN_EXPLAINED. Where
    rotation explains less of the variance, the minimum of the error is not at the right angle. An angle moves by at
    most one bin: the density decides which peak it is.
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
    return wrap(torch.where(better, refined, start)), log_weight


def fuse_posteriors(orientation: Orientation, correlation: AngularCorrelation, hypotheses: int) -> Orientation:
    r"""Fuse the posteriors of the encoder and of the pixels, and refine the peaks (`refine_peaks`).

        log p(angle) = log p_encoder(angle) + share * log p_pixels(angle) + constant

    `p_pixels` is MATCH_ODDS L / sqrt(nu) + 1, where 1 / sqrt(nu) is the penalty for the fitted contrast (G. Schwarz,
    Estimating the dimension of a model, 1978). `share` is the share of the reference's variance that the best angle
    explains (`log_likelihood`). It is near 1 if image and reference differ only in rotation, contrast and a little
    noise. It is near 0 if the object is occluded, shifted or very noisy: `log_likelihood` does not model these cases
    and would be biased. This is a heuristic, since both posteriors come from the same pixels.

    The result replaces the encoder's only where it lowers the photometric error inside the inscribed disc.
    """
    likelihood, share, pixels = log_likelihood(correlation)
    log_pixels = F.softplus(likelihood + (math.log(MATCH_ODDS) - 0.5 * pixels.log()), threshold=40)
    assert orientation.log_posterior is not None
    log_encoder = upsample_log_density(orientation.log_posterior, log_pixels.shape[1])
    encoder = Orientation(orientation.angle, orientation.log_weight, log_encoder)
    log_fused = (log_encoder + share * log_pixels).log_softmax(1)
    fused = Orientation(*refine_peaks(correlation, log_fused, hypotheses), log_fused)
    before, after = (correlation.value_and_derivatives(each.angle[:, :1])[0].square() for each in (encoder, fused))
    return Orientation.where((after > before)[:, 0], fused, encoder)
