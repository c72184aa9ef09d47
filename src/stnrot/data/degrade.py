"""Degrade an image, or the image of a pair: brightness, noise, occlusion, inversion, displacement."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.errors import InputError, check_number
from stnrot.geometry.constants import constant

NUMBERS = 11  # uniform numbers that degrade one pair


@dataclass(frozen=True)
class Degrade:
    """Change the brightness of both images of a pair and add noise; occlude, invert and move the first.

    Values lie in [0, 1]. Every pair has its own random amounts. The reference is never occluded, inverted or moved.

    Args:
        gain: each image is multiplied by a factor that is uniform in [1 - gain, 1 + gain].
        noise: largest standard deviation of the Gaussian noise; that of a pair is uniform from 0 on.
        occlude: largest share of the image that a grey rectangle covers; that of a pair is uniform from 0 on.
        invert: probability that the image becomes its negative.
        shift: largest displacement of the image along each axis, as a share of the side.
    """

    gain: float
    noise: float
    occlude: float
    invert: float
    shift: float

    def __post_init__(self) -> None:
        check_number("gain", self.gain, 0, 1, whole=False)
        check_number("noise", self.noise, 0, whole=False)
        check_number("occlude", self.occlude, 0, 0.9, whole=False)
        check_number("invert", self.invert, 0, 1, whole=False)
        check_number("shift", self.shift, 0, 0.5, whole=False)

    def displacement(self, numbers: Float[Tensor, "B 11"]) -> Float[Tensor, "B 2"]:
        """Return how far each image moves to the right and down, as shares of the sides."""
        return self.shift * (2 * numbers[:, 9:] - 1)

    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "B C H W"],
        numbers: Float[Tensor, "B 11"],
        noise: Float[Tensor, "B 2*C H W"] | None,
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """Degrade pairs by uniform `numbers` and standard normal `noise`. Without noise it is None.

        The images are not moved here: the caller moves them by `displacement` in the same resampling that rotates them.
        """
        first, second = (None, None) if noise is None else noise.chunk(2, 1)
        return self.image(image, numbers, first), self._exposed(reference, numbers[:, 3], numbers, second)

    def image(
        self, image: Float[Tensor, "B C H W"], numbers: Float[Tensor, "B 11"], noise: Float[Tensor, "B C H W"] | None
    ) -> Float[Tensor, "B C H W"]:
        """Degrade images without a reference, in the same way as the first images of pairs."""
        invert, grey = numbers[:, :2, None, None, None].unbind(1)
        image = torch.where(invert < self.invert, 1 - image, image)
        image = torch.where(self._occluded(numbers, image), grey, image)
        return self._exposed(image, numbers[:, 2], numbers, noise)

    def _exposed(
        self,
        image: Float[Tensor, "B C H W"],
        bright: Float[Tensor, "B"],
        numbers: Float[Tensor, "B 11"],
        noise: Float[Tensor, "B C H W"] | None,
    ) -> Float[Tensor, "B C H W"]:
        """Return the image with its brightness changed and noise added."""
        image = image * (1 + self.gain * (2 * bright[:, None, None, None] - 1))
        if noise is not None:
            image = image + self.noise * numbers[:, 4, None, None, None] * noise
        return image.clamp(0, 1)

    def _occluded(self, numbers: Float[Tensor, "B 11"], image: Float[Tensor, "B C H W"]) -> Bool[Tensor, "B 1 H W"]:
        """Return the mask of a rectangle of random place and proportions in each image."""
        area, form, down, right = numbers[:, 5:9].unbind(1)
        area = self.occlude * area
        share = area ** (0.3 + 0.4 * form)  # of the height; the share of the width is area / share
        inside = torch.ones((), dtype=torch.bool, device=image.device)
        for axis, length, place in ((2, share, down), (3, area / share.clamp(min=1e-6), right)):
            centre = _centres(image.shape[axis], image.device, place.dtype)
            start = (place * (1 - length))[:, None]
            within = (centre >= start) & (centre < start + length[:, None])
            inside = inside & within.view(len(image), 1, *((-1, 1) if axis == 2 else (1, -1)))
        return inside


@constant
def _centres(pixels: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{pixels}"]:
    """Return the centres of the pixels along a side, as shares of it."""
    return (torch.arange(pixels, device=device, dtype=dtype) + 0.5) / pixels


def check_degrade(degrade: object) -> None:
    """Raise InputError unless the argument `degrade` of a datamodule is a `Degrade`."""
    if not isinstance(degrade, Degrade):
        raise InputError(f"degrade={degrade}: expected a choice with a slash, such as data/degrade=clean")
