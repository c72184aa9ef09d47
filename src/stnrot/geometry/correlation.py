"""Correlation of two pictures over the angle: a function of any angle, not only of samples."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor

DENSITY = 3.2  # directions for a pixel of the side: the outermost circle is pi sides long


@dataclass(frozen=True)
class AngularCorrelation:
    r"""Pearson's correlation of the image, turned by an angle, with the reference: a trigonometric polynomial.

        s(angle) = Re sum_{k >= 1} coefficient[k - 1] exp(i k angle), in [-1, 1] but for rounding.

    The mean of each circle about the centre has been taken off both: it says nothing of the angle, and would let all
    angles look alike in pictures that are dark towards their rim. With the contrast fitted by least squares, the image
    leaves the share `1 - s^2` of the reference's variance unexplained: the photometric error of the angle. Where s is
    below 0, one picture is the negative of the other.
    """

    coefficient: Complex[Tensor, "B F"]

    def sampled(self, count: int) -> Float[Tensor, "B {count}"]:
        """Return s at `count` equal steps of the circle, more than twice as many as there are coefficients."""
        return torch.fft.irfft(F.pad(self.coefficient, (1, 0)), n=count) * (count / 2)

    def value_and_derivatives(
        self, angle: Float[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Return s and its first and second derivative at angles (radians)."""
        k = torch.arange(1, self.coefficient.shape[1] + 1, device=angle.device, dtype=angle.dtype)
        phase = angle[..., None] * k
        term = torch.polar(torch.ones_like(phase), phase) * self.coefficient[:, None]
        return term.real.sum(-1), -(term.imag * k).sum(-1), -(term.real * k**2).sum(-1)


def correlate(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> AngularCorrelation:
    r"""Correlate pictures inside their inscribed discs, which are laid over each other, over all angles.

    One reference serves all images, or each has its own.

    Both are read bicubically on circles a pixel of the smaller one apart, a ring counting by its area, where a
    turn is a shift: the correlation over all of them is one product of Fourier transforms a circle.

    Source of the principle: E. De Castro and C. Morandi, Registration of translated and rotated images using finite
    Fourier transforms, 1987.
    """
    side = min(*image.shape[-2:], *reference.shape[-2:])
    radii, angles = max(side // 2, 4), next_fast_len(round(DENSITY * side), real=True)
    dtype = torch.promote_types(image.dtype, torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        circle = (torch.arange(radii, device=image.device, dtype=dtype) + 0.5) / radii
        area = (circle / circle.sum())[:, None]
        alike = image.shape[1:] == reference.shape[1:]
        stacks = [torch.cat((image, reference))] if alike else [image, reference]  # a stack is read on all cores
        spectra = [_spectrum(_contrast(x.to(dtype)), circle * (1 - 1 / side), area.sqrt(), angles) for x in stacks]
        f, g = torch.cat(spectra).split((len(image), len(reference)))
        # the norm of complex numbers takes many times as long as that of their parts
        f_size, g_size = (torch.linalg.vector_norm(torch.view_as_real(x).flatten(1), dim=1) for x in (f, g))
        size = (f_size * g_size).clamp(min=torch.finfo(dtype).tiny)
        return AngularCorrelation((f.conj() * g).sum((1, 2)) / size[:, None])


def _contrast(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Take off the mean of each channel and bring the rest into [-1, 1].

    Rounding would make two pictures alike whose contrast is far below their brightness, and the squares of what is very
    large or small are infinite or zero.
    """
    tiny = torch.finfo(image.dtype).tiny
    image = image / image.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny)
    image = image - image.mean((2, 3), keepdim=True)
    return image / image.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny)


def _spectrum(
    image: Float[Tensor, "B C H W"], radius: Float[Tensor, "D"], weight: Float[Tensor, "D 1"], angles: int
) -> Complex[Tensor, "B C D F"]:
    """Return the weighted Fourier coefficients, but for the mean, of circles (radius in halves of the shorter side)."""
    height, width = image.shape[-2:]
    side = min(height, width)
    direction = torch.arange(angles, device=image.device, dtype=image.dtype) * (2 * math.pi / angles)
    x, y = radius[:, None] * direction.cos() * (side / width), -radius[:, None] * direction.sin() * (side / height)
    grid = torch.stack((x, y), -1).expand(len(image), -1, -1, -1)
    circles = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    phased = (angles - 1) // 2  # the highest frequency of an even number of directions has no phase
    return torch.fft.rfft(circles * weight)[..., 1 : phased + 1]
