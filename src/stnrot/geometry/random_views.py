"""Change training images at random so that their upright can only be learned from the picture, not from its traces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked
from stnrot.errors import check_number
from stnrot.geometry.autograd import at_least_float32, same_type, without_autocast
from stnrot.geometry.jpeg import jpeg
from stnrot.geometry.planar import Mode, rotation_theta, warp

ZOOM = 1.2  # largest
SHIFT = 0.1  # largest, as a share of half the side
GAIN, OFFSET = 0.2, 0.1  # largest change of brightness
QUALITY = (25.0, 75.0)  # of the compression


@dataclass(frozen=True)
class RandomViews:
    """Rotate images, and blur, mirror, zoom, shift, brighten and compress them at random.

    Sampling leaves traces that tell the angle against the pixel grid, and the 8 x 8 blocks of JPEG turn with the
    picture. A network that reads them is exact in training and wrong on other images. So each image is first blurred by
    a random part of 0 to 0.7 pixels, and it is zoomed and shifted at random in the same sampling as the rotation. The
    zoom is at least 1 and the shift so small that no border comes into the inscribed disc: a straight border would tell
    the angle too. Outside, the pixels of the border are repeated. At the end every image is compressed as JPEG of a low
    quality, whose blocks and coarse colours do not turn with the picture. If some were not, a network would learn from
    these what the JPEG of the stored photographs has left.

    Args:
        mirror: probability of the mirror image, left and right exchanged before the rotation. Use 0 if the images are
            not upright, or if their mirror images are not: letters.

    Raises:
        InputError: if the probability is not from 0 to 1.

    >>> views = RandomViews(mirror=0.5)
    >>> views(torch.rand(2, 3, 32, 32), torch.zeros(2), torch.randn(2, views.count), "bicubic").shape
    torch.Size([2, 3, 32, 32])
    """

    mirror: float

    count: ClassVar[int] = 8  # standard normal numbers that change one image

    def __post_init__(self) -> None:
        check_number("mirror", self.mirror, 0, 1, whole=False)

    @checked
    def random_angle(self, numbers: Float[Tensor, "B 8"]) -> Float[Tensor, "B"]:
        """Return the angle (radians) of the additional rotation, which is none."""
        return torch.zeros_like(at_least_float32(numbers[:, 0]))

    @checked
    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        angle: Float[Tensor, "B"],
        numbers: Float[Tensor, "B 8"],
        mode: Mode = "bilinear",
    ) -> Float[Tensor, "B C H W"]:
        """Mirror each image at random, rotate it by `angle` (radians), and change it further.

        Args:
            image: images with values in [0, 1]; those of the result may be outside.
            angle: radians, counter-clockwise.
            numbers: standard normal numbers; they alone determine the changes.
            mode: of the interpolation, see `sample`.
        """
        height, width = image.shape[-2:]
        angle, numbers = same_type(angle, numbers)  # coordinates in bf16 are wrong by whole pixels
        with without_autocast(image):
            uniform = torch.special.ndtr(at_least_float32(numbers))
            zoom, mirrored, blur, gain, offset, quality = uniform[:, :6].unbind(1)
            scale = 1 / (1 + (ZOOM - 1) * zoom)
            sign = torch.where(mirrored < self.mirror, -scale, scale)
            shift = (2 * uniform[:, 6:] - 1) * (1 - scale).clamp(max=SHIFT)[:, None]
            linear = torch.stack((sign, scale), 1)[..., None] * rotation_theta(angle, height, width)[..., :2]
            theta = torch.cat((linear, shift[..., None]), -1)
        blurred = image.lerp(_blurred(image), blur.to(image.dtype)[:, None, None, None])
        views = warp(blurred, theta, mode, "border")
        gain, offset = 1 + GAIN * (2 * gain - 1), OFFSET * (2 * offset - 1)
        views = torch.addcmul(_each(offset, views), views, _each(gain, views))
        return jpeg(views, QUALITY[0] + (QUALITY[1] - QUALITY[0]) * quality)


def _each(value: Float[Tensor, "B"], image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 1 1"]:
    """Return a number of each image, to be broadcast."""
    return value.to(image.dtype)[:, None, None, None]


def _blurred(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Average by (1, 2, 1) / 4 along both sides, a blur of 0.7 pixels. On a CPU, `conv2d` takes seven times as long."""
    sums = F.pad(images, (1, 1, 1, 1), mode="replicate")
    for dim in (2, 2, 3, 3):
        count = sums.shape[dim] - 1
        sums = sums.narrow(dim, 0, count) + sums.narrow(dim, 1, count)
    return sums / 16
