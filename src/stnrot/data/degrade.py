"""What two pictures of one thing differ in beside their turn, or one from how it was rendered."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.errors import check_number

NUMBERS = 11  # uniform numbers that degrade one pair


@dataclass(frozen=True)
class Degrade:
    """Change the brightness of both pictures and add noise; hide a part of the image, invert it, move it.

    Pictures lie in [0, 1]. What is hidden or moved is the image; the reference stays whole and centred.

    Args:
        gain: brightness factor, drawn from 1 +- gain for each picture apart.
        noise: largest standard deviation of Gaussian noise; each pair draws its own, from 0 on.
        occlude: largest share of the image that lies behind a grey rectangle; each pair draws its own, from 0 on.
        invert: probability that the image is its own negative.
        shift: largest displacement of the image along each axis, as a share of the side.
    """

    gain: float
    noise: float
    occlude: float
    invert: float
    shift: float

    def __post_init__(self) -> None:
        for name, least, most in (("gain", 0, 1), ("noise", 0, None), ("occlude", 0, 0.9), ("invert", 0, 1)):
            check_number(f"data.degrade.{name}", getattr(self, name), least, most, whole=False)
        check_number("data.degrade.shift", self.shift, 0, 0.5, whole=False)

    def displacement(self, numbers: Float[Tensor, "B 11"]) -> Float[Tensor, "B 2"]:
        """Return how far the image is moved to the right and down, as shares of the side."""
        return self.shift * (2 * numbers[:, 9:] - 1)

    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "B C H W"],
        numbers: Float[Tensor, "B 11"],
        noise: Float[Tensor, "B 2*C H W"] | None,
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """Degrade the pairs by uniform `numbers` and, unless it is None, standard normal `noise`."""
        first, second = (None, None) if noise is None else noise.chunk(2, 1)
        return self.image(image, numbers, first), self._exposed(reference, numbers[:, 3], numbers, second)

    def image(
        self, image: Float[Tensor, "B C H W"], numbers: Float[Tensor, "B 11"], noise: Float[Tensor, "B C H W"] | None
    ) -> Float[Tensor, "B C H W"]:
        """Degrade pictures that have no reference, as the images of pairs are; they are not moved."""
        invert, grey = numbers[:, :2, None, None, None].unbind(1)
        image = torch.where(invert < self.invert, 1 - image, image)
        image = torch.where(self._hidden(numbers, image), grey, image)
        return self._exposed(image, numbers[:, 2], numbers, noise)

    def _exposed(self, picture: Tensor, bright: Tensor, numbers: Tensor, noise: Tensor | None) -> Tensor:
        picture = picture * (1 + self.gain * (2 * bright[:, None, None, None] - 1))
        if noise is not None:
            picture = picture + self.noise * numbers[:, 4, None, None, None] * noise
        return picture.clamp(0, 1)

    def _hidden(self, numbers: Tensor, image: Tensor) -> Tensor:
        """Mark a rectangle of random place and proportions in each picture."""
        area, form, down, right = numbers[:, 5:9].unbind(1)
        area = self.occlude * area
        share = area ** (0.3 + 0.4 * form)  # of the height; that of the width is area / share
        inside = torch.ones((), dtype=torch.bool, device=image.device)
        for axis, length, place in ((2, share, down), (3, area / share.clamp(min=1e-6), right)):
            centre = (torch.arange(image.shape[axis], device=image.device) + 0.5) / image.shape[axis]
            start = (place * (1 - length))[:, None]
            within = (centre >= start) & (centre < start + length[:, None])
            inside = inside & within.view(len(image), 1, *((-1, 1) if axis == 2 else (1, -1)))
        return inside
