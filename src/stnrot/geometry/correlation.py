"""Correlation of two images as a function of the angle, defined for every angle and not only for samples."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.arguments import Count, checked, checked_fields, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import same_type, without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.fourier import irfft, rfft
from stnrot.geometry.resampling import sample_circles

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
        details: about the number of independent details that the two images have (`correlate`).
    """

    coefficient: Complex[Tensor, "B F"]
    details: Float[Tensor, "B"]

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
        if angle.dtype != of.dtype.to_real():
            angle = angle.to(torch.promote_types(angle.dtype, of.dtype.to_real()))
        one, k, _ = _frequencies(of.shape[1], angle.device, angle.dtype)
        waves = torch.polar(one, angle[..., None] * k)
        s, slope, bend = (waves @ self._series.to(waves.dtype)).real.unbind(-1)
        return s, slope, bend

    @cached_property
    def _series(self) -> Complex[Tensor, "B F 3"]:
        """Return the coefficients of s and of its first two derivatives."""
        of = self.coefficient
        return of[..., None] * _frequencies(of.shape[1], of.device, of.dtype.to_real())[2]


@constant
def _frequencies(
    count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, ""], Float[Tensor, "{count}"], Complex[Tensor, "{count} 3"]]:
    """Return 1, the frequencies k = 1 ... count, and the factors 1, i k and -k^2 of a term and its derivatives."""
    k = torch.arange(1, count + 1, device=device, dtype=dtype)
    return torch.ones((), device=device, dtype=dtype), k, torch.stack((k / k, 1j * k, -(k**2)), 1)


@checked
def correlate(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> AngularCorrelation:
    r"""Correlate images with references over all angles, inside their inscribed discs.

    The two discs are scaled to the same size. One reference serves all images, or each image has its own.

    Both images are sampled bicubically on circles. The distance of the circles is one pixel of the smaller image. Each
    circle has the weight of the area of its ring. On a circle a rotation is a shift, so the correlation at all angles
    is one product of Fourier transforms for each circle.

    The number of details is n^2 p, but not more than the disc has pixels. Here n is the number of details along a
    circle. If P(k) and Q(k) are the shares of the variance that the two images have at the frequency k, then

        n = 2 / sum_k P(k) Q(k).

    By the inequality of Cauchy and Schwarz, 1 / n is at least the mean of s^2 over all angles. The factor p is the
    share of the disc that is not plain ground. It is the participation ratio, the geometric mean over both images of

        (mean of v^2)^2 / (mean of v^4),

    where v are the values less the mean of their circle. For Gaussian noise p is 1/3. For three spots with a standard
    deviation of 3 % of the side p is about 1/30.

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
    counts = [len(image), len(reference)]
    side = min(*image.shape[-2:], *reference.shape[-2:])
    radii, angles = max(side // 2, 4), fast_length(round(DENSITY * side))
    with without_autocast(image):
        same_shape = image.shape[1:] == reference.shape[1:]
        stacks = [torch.cat((image, reference))] if same_shape else [image, reference]  # one stack uses all cores
        circles = [sample_circles(_contrast(x), radii, angles, 1 - 1 / side) for x in stacks]
        values = circles[0] if same_shape else torch.cat(circles)
        spectra = rfft(values)
        highest = (angles - 1) // 2  # for an even number of directions, the frequency above it has no phase
        spectra[..., highest + 1 :].zero_()
        details = _details(values, spectra, counts)
        spectra[..., 0].zero_()  # the mean
        # the norm of complex numbers takes many times as long as the norm of their real and imaginary parts
        f_size, g_size = torch.linalg.vector_norm(torch.view_as_real(spectra).flatten(1), dim=1).split(counts)
        f, g = spectra.split(counts)
        size = (f_size * g_size).clamp(min=torch.finfo(image.dtype).tiny)
        return AngularCorrelation((f.conj() * g).sum((1, 2))[:, 1 : highest + 1] / size[:, None], details)


def _details(
    values: Float[Tensor, "N C radii A"], spectra: Complex[Tensor, "N C radii K"], counts: list[int]
) -> Float[Tensor, "B"]:
    """Return the number of details of images and references (`correlate`), by every second circle, to save time.

    Args:
        values: on circles, times the root of the share that a ring has of the disc.
        spectra: their Fourier transforms.
        counts: of images and references.
    """
    _, channels, radii, angles = values.shape
    values, spectra = values[:, :, 1::2], spectra[:, :, 1::2]
    power = torch.view_as_real(spectra).square().sum((1, 2)).sum(2)[:, 1:]
    size = power.sum(1)
    square = torch.sub(values, spectra[..., :1].real, alpha=1 / angles).square()
    rings = torch.linalg.vector_norm(square, dim=-1) / _ring_roots(radii, values.device, values.dtype)
    tiny = torch.finfo(values.dtype).tiny
    filled = size / torch.linalg.vector_norm(rings.flatten(1), dim=1).clamp(min=tiny)  # root of p, up to a factor
    p, q = power.split(counts)
    n = 2 * torch.mul(*size.split(counts)) / (p * q).sum(1).clamp(min=tiny)
    details = n.square() * torch.mul(*filled.split(counts)) * (4 / (angles**3 * channels))
    return details.clamp(max=math.pi * radii**2)


@constant
def _ring_roots(circles: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "radii"]:
    """Return the root of the share that every second ring has of all of these."""
    circle = (torch.arange(circles, device=device, dtype=dtype) + 0.5)[1::2]
    return (circle / circle.sum()).sqrt()


def _contrast(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Shift the values of each channel so that zero is halfway between its extremes, and scale them to [-1, 1].

    Without it, two images whose contrast is far below their brightness would be equal after rounding, and the squares
    of very large or very small values would be infinite or zero.
    """
    low, high = image.amin((2, 3), keepdim=True) / 2, image.amax((2, 3), keepdim=True) / 2  # the sum may be infinite
    most = (high - low).amax(1, keepdim=True).clamp(min=torch.finfo(image.dtype).tiny)
    return (image - (low + high)) / most


def fast_length(shortest: int) -> int:
    """Return the smallest number of at least `shortest` without a prime factor above 5, which a fast FFT can have."""
    length = shortest
    while 30 ** length.bit_length() % length:
        length += 1
    return length
