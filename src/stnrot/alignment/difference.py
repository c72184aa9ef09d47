"""The encoder of pictures that only have their upright in common: each is stood upright, the angles are subtracted."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.alignment.posterior import BINS, peaks
from stnrot.geometry import upsample_log_density
from stnrot.models.outputs import Orientation


class DifferenceEncoder(nn.Module):
    r"""Search the upright angle of image and reference apart; their difference is the angle between the two.

    With the posteriors p and q of the angles that stand the image and the reference upright, the one that turns the
    image onto the reference has the posterior

        r(angle) = sum_b p(b + angle) q(b),

    a correlation on the circle, by FFT.

    Args:
        encoder: takes pictures, a reference and K, returns an `Orientation` with a posterior.
        upright: the reference that it learned.
    """

    def __init__(self, encoder: nn.Module, upright: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("upright", upright)

    def forward(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"], hypotheses: int
    ) -> Orientation:
        """Return the hypotheses on the angle that turns the image onto the reference."""
        said = [self.encoder(picture, self.upright, 1).log_posterior for picture in (image, reference)]
        p, q = (torch.fft.rfft(upsample_log_density(each, BINS).exp()) for each in said)
        both = torch.fft.irfft(p * q.conj(), n=BINS)
        log_posterior = both.clamp(min=torch.finfo(both.dtype).tiny).log().log_softmax(1)
        angle, log_weight = peaks(log_posterior, hypotheses)
        return Orientation(angle, log_weight, log_posterior)
