"""The encoder that needs no training: correlation of the pictures themselves on the circle."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry import AngularCorrelation, circular_peaks, correlate, wrap
from stnrot.models.records import Orientation

FINE = 512  # bins of the posterior, at least: less than a degree
NEAR = math.radians(12)  # of the peak: what belongs to it, and not to chance
STEPS = 4


class CorrelationEncoder(nn.Module):
    r"""Correlate image and reference over all angles (`correlate`); return the angles of the highest peaks.

    If the reference is the turned image with another brightness, contrast, and Gaussian noise on nu independent pixels,
    all of them unknown, an angle with the correlation s has the profile likelihood

        p(angle) ~ (1 - s(angle)^2)^(-nu / 2).

    How many pixels of a picture are independent is not known either; but at wrong angles s is there by chance, and
    then has the variance 1 / nu. So nu is one over the mean of s^2 away from the highest peak, and a picture that
    resembles itself at many angles, or an unrelated one, gives a flat posterior. A negative (s < 0) is as good as a
    positive.
    """

    def forward(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C h w"], hypotheses: int
    ) -> Orientation:
        """Return the hypotheses, refined by Newton steps, and the posterior."""
        correlation = correlate(image, reference)
        bins = max(FINE, 2 * correlation.coefficient.shape[1])
        width = 2 * math.pi / bins
        if not 1 <= hypotheses <= bins // 2:
            raise InputError(f"model.hypotheses={hypotheses}: expected 1 to {bins // 2}")
        explained = correlation.sampled(bins).square().clamp(max=1 - 1e-6)
        pixels = independent_pixels(explained, explained.argmax(1, keepdim=True) * width)
        log_posterior = (-pixels / 2 * torch.log1p(-explained)).log_softmax(1)
        angle, log_weight = circular_peaks(log_posterior, hypotheses, round(NEAR / 2 / width))
        return Orientation(climbed(correlation, angle, width), log_weight, log_posterior)


def independent_pixels(explained: Float[Tensor, "B A"], peak: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
    """Return nu: one over the mean of s^2 (in equal bins of the circle) away from the angle of the peak."""
    bins = explained.shape[1]
    angle = torch.arange(bins, device=peak.device) * (2 * math.pi / bins)
    chance = wrap(angle - peak).abs() > NEAR
    return chance.sum(1, keepdim=True) / (explained * chance).sum(1, keepdim=True).clamp(min=1e-6)


def climbed(
    correlation: AngularCorrelation, start: Float[Tensor, "B K"], reach: float, pull: Float[Tensor, "B K"] | float = 0.0
) -> Float[Tensor, "B K"]:
    r"""Return the maxima of the likelihood next to `start`, by a few Newton steps of at most `reach` (radians).

    What is climbed is `-nu / 2 log(1 - s^2) - nu pull / 2 (angle - start)^2`, whose last term keeps near the start what
    the pictures do not decide: `pull` is the precision of the start over nu.
    """
    angle = start
    for _ in range(STEPS):
        s, slope, bend = correlation.derivatives(angle)
        held = pull * (1 - s**2)
        gradient = s * slope - held * wrap(angle - start)
        curvature = s * bend + slope**2 - held
        step = torch.where(curvature < 0, -gradient / curvature.clamp(max=-1e-9), 0.0)
        angle = wrap(angle + step.clamp(-reach, reach))
    return angle
