"""Random changes of photographs, as usual for ImageNet, in one sampling together with a rotation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked
from stnrot.errors import check_number
from stnrot.geometry.autograd import at_least_float32, same_type, without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.planar import Mode, rotation_theta, warp

GREY = (0.2989, 0.587, 0.114)  # of red, green and blue in a grey value, as in torchvision
# Random erasing: share of the image, and largest ratio of the sides of the rectangle
SMALLEST, LARGEST, ERASED_ASPECT = 0.02, 0.33, 3.3


@dataclass(frozen=True)
class PhotoAugment:
    """Rotate images, then crop them, mirror them, change their colours and erase a rectangle, all at random.

    The crop is enlarged to the size of the image. Rotation, crop and mirror image are one sampling. The rotation comes
    first: if it makes the image upright, then left and right change places in the upright image.

    The colours are changed in this order, each by a factor f that is uniform in [1 - s, 1 + s] for the strength s, and
    then clamped to [0, 1]: brightness, `f x`; contrast, `f x + (1 - f) m` with the mean m of the grey image;
    saturation, `f x + (1 - f) g` with the grey image g. torchvision has the same formulas with one factor for a whole
    batch; here each image has its own.

    An erased rectangle has the mean colour of the image, from 2 to 33 % of its area, and sides in a ratio of at most
    3.3 (Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, Random erasing data augmentation, 2020).

    Args:
        area: least share of the image that a crop shows (0.01 to 1); 1 for no crop. The share is uniform.
        aspect: largest ratio of height and width of the crop, relative to the image, and of its inverse (1 to 4).
        mirror: probability of the mirror image.
        brightness: strength (0 to 1).
        contrast: strength (0 to 1).
        saturation: strength (0 to 1). Images without three channels have none.
        erase: probability of an erased rectangle.

    Raises:
        InputError: if an argument is outside its range.

    >>> augment = PhotoAugment(
    ...     area=0.5, aspect=1.33, mirror=0.5, brightness=0.4, contrast=0.4, saturation=0.4, erase=0.25
    ... )
    >>> augment(torch.rand(2, 3, 32, 32), torch.zeros(2), torch.randn(2, augment.count)).shape
    torch.Size([2, 3, 32, 32])
    """

    area: float
    aspect: float
    mirror: float
    brightness: float
    contrast: float
    saturation: float
    erase: float

    count: ClassVar[int] = 13  # standard normal numbers that change one image

    def __post_init__(self) -> None:
        check_number("area", self.area, 0.01, 1, whole=False)
        check_number("aspect", self.aspect, 1, 4, whole=False)
        for name in ("mirror", "brightness", "contrast", "saturation", "erase"):
            check_number(name, getattr(self, name), 0, 1, whole=False)

    @checked
    def __call__(
        self,
        image: Float[Tensor, "B C H W"],
        angle: Float[Tensor, "B"],
        numbers: Float[Tensor, "B 13"],
        mode: Mode = "bilinear",
    ) -> Float[Tensor, "B C H W"]:
        """Rotate each image by `angle` (radians), then change it.

        Args:
            image: images with values in [0, 1].
            angle: radians, counter-clockwise.
            numbers: standard normal numbers; they alone determine the changes.
            mode: of the interpolation, see `sample`.
        """
        angle, numbers = same_type(angle, numbers)  # coordinates in bf16 are wrong by whole pixels
        uniform = torch.special.ndtr(at_least_float32(numbers))  # in (0, 1)
        with without_autocast(image):
            cropped = warp(image, self._theta(angle, uniform[:, :5], image.shape[-2], image.shape[-1]), mode)
            wide = at_least_float32(cropped).clamp(0, 1)
            return self._erase(self._colour(wide, uniform[:, 5:8]), uniform[:, 8:]).to(image.dtype)

    def _theta(
        self, angle: Float[Tensor, "B"], uniform: Float[Tensor, "B 5"], height: int, width: int
    ) -> Float[Tensor, "B 2 3"]:
        """Return the sampling matrices of rotation, crop and mirror image."""
        area = self.area + (1 - self.area) * uniform[:, 0]
        ratio = ((2 * uniform[:, 1] - 1) * math.log(self.aspect)).exp()
        sides = torch.stack((area * ratio, area / ratio), 1).sqrt().clamp(max=1)  # shares of width and height
        middle = (1 - sides) * (2 * uniform[:, 2:4] - 1)
        sign = torch.where(uniform[:, 4] < self.mirror, -1.0, 1.0)
        sides = torch.stack((sides[:, 0] * sign, sides[:, 1]), 1)
        rotation = rotation_theta(angle, height, width)[..., :2]
        return torch.cat((rotation * sides[:, None], rotation @ middle[..., None]), -1)

    def _colour(self, image: Float[Tensor, "B C H W"], uniform: Float[Tensor, "B 3"]) -> Float[Tensor, "B C H W"]:
        strengths = (self.brightness, self.contrast, self.saturation)
        draws = (2 * uniform - 1)[..., None, None, None].unbind(1)
        factors = [1 + strength * draw for strength, draw in zip(strengths, draws, strict=True)]
        if self.brightness:
            image = (factors[0] * image).clamp(0, 1)
        if self.contrast:
            image = (factors[1] * image + (1 - factors[1]) * _grey(image).mean((2, 3), keepdim=True)).clamp(0, 1)
        if self.saturation and image.shape[1] == len(GREY):
            image = (factors[2] * image + (1 - factors[2]) * _grey(image)).clamp(0, 1)
        return image

    def _erase(self, image: Float[Tensor, "B C H W"], uniform: Float[Tensor, "B 5"]) -> Float[Tensor, "B C H W"]:
        if not self.erase:
            return image
        area = SMALLEST + (LARGEST - SMALLEST) * uniform[:, 1]
        ratio = ((2 * uniform[:, 2] - 1) * math.log(ERASED_ASPECT)).exp()
        sides = torch.stack((area * ratio, area / ratio), 1).sqrt().clamp(max=1)
        middle = (1 - sides) * (2 * uniform[:, 3:] - 1)
        x, y = (_centres(side, image.device, uniform.dtype) for side in (image.shape[-1], image.shape[-2]))
        across = (x - middle[:, :1]).abs() < sides[:, :1]
        down = (y - middle[:, 1:]).abs() < sides[:, 1:]
        erased = (uniform[:, :1] < self.erase)[..., None] & down[:, :, None] & across[:, None]
        return torch.where(erased[:, None], image.mean((2, 3), keepdim=True), image)


def _grey(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    if image.shape[1] != len(GREY):
        return image.mean(1, keepdim=True)
    red, green, blue = image.split(1, 1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


@constant
def _centres(pixels: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{pixels}"]:
    """Return the centres of the pixels along a side, which reaches from -1 to 1."""
    return (2 * torch.arange(pixels, device=device, dtype=dtype) + 1 - pixels) / pixels
