"""Correlation of two images as a function of the angle, defined for every angle and not only for samples."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.arguments import Count, checked, checked_fields, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import same_type, without_autocast
from stnrot.geometry.fourier import irfft, rfft

DENSITY = 3.2  # directions per pixel of the side; the outermost circle is pi sides long


@checked_fields
@dataclass(frozen=True)
class AngularCorrelation:
    r"""Pearson's correlation of the reference with the image rotated by an angle, as a trigonometric polynomial.

        s(angle) = Re sum_{k >= 1} coefficient[k - 1] exp(i k angle), in [-1, 1] up to rounding.

    The mean of each circle about the centre is subtracted from both images before. It does not depend on the angle, and
    in images that are dark towards the border it would give all angles a high correlation. If the contrast is fitted by
    least squares, the rotated image leaves the share `1 - s^2` of the variance of the reference unexplained. This share
    is the photometric error of the angle. If s is below 0, one image is like a negative of the other.

    Attributes:
        coefficient: of the frequencies k = 1 ... F.
    """

    coefficient: Complex[Tensor, "B F"]

    @checked
    def sampled(self, count: Count) -> Float[Tensor, "B {count}"]:
        """Return s at `count` equal steps of the circle; `count` is more than twice the number of coefficients.

        Raises:
            InputError: if `count` is too small; then several polynomials have the same samples.
        """
        frequencies = self.coefficient.shape[1]
        if count <= 2 * frequencies:
            raise InputError(
                f"count: expected a whole number of at least {2 * frequencies + 1}, more than twice the "
                f"{frequencies} coefficients, got {count}"
            )
        return irfft(F.pad(self.coefficient, (1, 0)), count) * (count / 2)

    @checked
    def value_and_derivatives(
        self, angle: Float[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Return s, its first and its second derivative at angles (radians).

        Raises:
            InputError: if there is not one row of angles for each row of coefficients, on the same device.
        """
        of = self.coefficient
        if len(angle) != len(of) or angle.device != of.device:
            raise InputError(
                f"angle: expected a tensor [B, K] on {of.device} with B = {len(of)}, got {described(angle)} on "
                f"{angle.device}"
            )
        angle = angle.to(torch.promote_types(angle.dtype, of.real.dtype))
        k = torch.arange(1, of.shape[1] + 1, device=angle.device, dtype=angle.dtype)
        phase = angle[..., None] * k
        term = torch.polar(torch.ones_like(phase), phase) * of[:, None]
        return term.real.sum(-1), -(term.imag * k).sum(-1), -(term.real * k**2).sum(-1)


@checked
def correlate(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> AngularCorrelation:
    r"""Correlate images with references over all angles, inside their inscribed discs.

    The two discs are scaled to the same size. One reference serves all images, or each image has its own.

    Both images are sampled bicubically on circles. The distance of the circles is one pixel of the smaller image. Each
    circle has the weight of the area of its ring. On a circle a rotation is a shift, so the correlation at all angles
    is one product of Fourier transforms for each circle.

    The computation is at least in float32, and in float64 if one of the two is.

    Raises:
        InputError: if there is neither one reference nor one for each image.

    Source of the principle: E. De Castro and C. Morandi, Registration of translated and rotated images using finite
    Fourier transforms, 1987.

    >>> image = torch.rand(1, 1, 32, 32)
    >>> samples = correlate(image, torch.rot90(image, 1, (2, 3))).sampled(360)
    >>> samples.argmax().item()
    90
    """
    if len(reference) not in (1, len(image)):
        raise InputError(
            f"reference: expected one or {len(image)} references, one for each image, got {described(reference)}"
        )
    image, reference = same_type(image, reference)
    side = min(*image.shape[-2:], *reference.shape[-2:])
    radii, angles = max(side // 2, 4), _fast_length(round(DENSITY * side))
    with without_autocast(image):
        circle = (torch.arange(radii, device=image.device, dtype=image.dtype) + 0.5) / radii
        area = (circle / circle.sum())[:, None]
        same_shape = image.shape[1:] == reference.shape[1:]
        stacks = [torch.cat((image, reference))] if same_shape else [image, reference]  # one stack uses all cores
        spectra = [_spectrum(_contrast(x), circle * (1 - 1 / side), area.sqrt(), angles) for x in stacks]
        f, g = torch.cat(spectra).split((len(image), len(reference)))
        # the norm of complex numbers takes many times as long as the norm of their real and imaginary parts
        f_size, g_size = (torch.linalg.vector_norm(torch.view_as_real(x).flatten(1), dim=1) for x in (f, g))
        size = (f_size * g_size).clamp(min=torch.finfo(image.dtype).tiny)
        return AngularCorrelation((f.conj() * g).sum((1, 2)) / size[:, None])


def _contrast(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Subtract the mean of each channel and scale the rest to [-1, 1].

    Without it, two images whose contrast is far below their brightness would be equal after rounding, and the squares
    of very large or very small values would be infinite or zero.
    """
    tiny = torch.finfo(image.dtype).tiny
    image = image / image.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny)
    image = image - image.mean((2, 3), keepdim=True)
    return image / image.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny)


def _fast_length(shortest: int) -> int:
    """Return the smallest number of at least `shortest` without a prime factor above 5, which a fast FFT can have."""
    length = shortest
    while 30 ** length.bit_length() % length:
        length += 1
    return length


def _spectrum(
    image: Float[Tensor, "B C H W"], radius: Float[Tensor, "D"], weight: Float[Tensor, "D 1"], angles: int
) -> Complex[Tensor, "B C D F"]:
    """Return the weighted Fourier coefficients of each circle without the mean.

    Args:
        radius: of each circle, in units of half the shorter side.
        weight: of each circle.
        angles: number of directions on a circle.
    """
    height, width = image.shape[-2:]
    side = min(height, width)
    direction = torch.arange(angles, device=image.device, dtype=image.dtype) * (2 * math.pi / angles)
    x, y = radius[:, None] * direction.cos() * (side / width), -radius[:, None] * direction.sin() * (side / height)
    grid = torch.stack((x, y), -1).expand(len(image), -1, -1, -1)
    circles = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    highest = (angles - 1) // 2  # for an even number of directions, the frequency above it has no phase
    return rfft(circles * weight)[..., 1 : highest + 1]
