"""The angle between two images of one class, as the difference of their upright angles."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.alignment.posterior import peaks
from stnrot.geometry.angles import upsample_log_density
from stnrot.models.confidence import BINS
from stnrot.models.outputs import Orientation


class DifferenceEncoder(nn.Module):
    r"""Estimate the upright angles of image and reference separately, and subtract them.

    The angle that rotates an image upright has a posterior: p for the image, q for the reference. The angle that
    rotates the image onto the reference then has the posterior

        r(angle) = sum_b p(b + angle) q(b),

    a correlation on the circle, computed by FFT.

    Args:
        encoder: takes images, a reference and K; returns an `Orientation` with a posterior.
        upright: the reference that the encoder's model has learned.
    """

    def __init__(self, encoder: nn.Module, upright: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("upright", upright)

    def forward(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"], hypotheses: int
    ) -> Orientation:
        """Return hypotheses on the angle that rotates the image onto the reference."""
        posteriors = [self.encoder(each, self.upright, 1).log_posterior for each in (image, reference)]
        p, q = (torch.fft.rfft(upsample_log_density(each, BINS).exp()) for each in posteriors)
        correlation = torch.fft.irfft(p * q.conj(), n=BINS)
        log_posterior = correlation.clamp(min=torch.finfo(correlation.dtype).tiny).log().log_softmax(1)
        angle, log_weight = peaks(log_posterior, hypotheses)
        return Orientation(angle, log_weight, log_posterior)
