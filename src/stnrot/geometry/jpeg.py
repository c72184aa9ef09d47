"""What the JPEG compression of an image loses, for batches on any device."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import checked
from stnrot.geometry.autograd import same_type, without_autocast
from stnrot.geometry.constants import constant

BLOCK = 8  # pixels of a side
LARGEST = 255  # of the values in a file
MIDDLE = 128 / LARGEST  # subtracted before the transform
# Steps of the luminance: row and column are the frequencies down and across
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
# Steps of the two differences of colour
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *4 * ((99, 99, 99, 99, 99, 99, 99, 99),),
)
RED, GREEN, BLUE = 0.299, 0.587, 0.114  # in the luminance


@checked
def jpeg(image: Float[Tensor, "B C H W"], quality: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    r"""Compress images as JPEG does, and decompress them: each block of 8 x 8 pixels loses its faint details.

    The cosine transform of a block is rounded to multiples of steps:

        x' = D^T (round(D x D^T / Q) * Q) D,  D_kn = c_k cos((2 n + 1) k pi / 16),  c_0^2 = 1/8, else c_k^2 = 1/4.

    The steps Q are those of the standard's tables (ITU-T T.81, Information technology: digital compression and coding
    of continuous-tone still images, 1992, tables K.1 and K.2), multiplied by 50 / quality below a quality of 50 and by
    2 - quality / 50 from there, as in libjpeg. An image of three channels is split into the luminance and the
    differences of blue and red from it, which are compressed at half the resolution (4:2:0). Each channel of other
    images is compressed like a grey image. The image is continued by its border to whole blocks.

    Rounding has no gradient, so the gradient of the result is zero. Values are not clamped.

    Args:
        image: with values in [0, 1].
        quality: of each image, from 1 to 100; the nearest of these for others.

    >>> jpeg(torch.rand(2, 3, 20, 30), torch.tensor([50.0, 90.0])).shape
    torch.Size([2, 3, 20, 30])
    """
    wide, quality = same_type(image, quality)
    quality = quality.clamp(1, 100)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    with without_autocast(image):
        if wide.shape[1] != 3:
            return (_rounded(wide - MIDDLE, LUMINANCE, scale) + MIDDLE).to(image.dtype)
        red, green, blue = wide.split(1, 1)
        grey = RED * red + GREEN * green + BLUE * blue
        differences = torch.cat(((blue - grey) / (2 - 2 * BLUE), (red - grey) / (2 - 2 * RED)), 1)
        height, width = wide.shape[-2:]
        whole = F.pad(differences, (0, width % 2, 0, height % 2), mode="replicate")
        coarse = _rounded(F.avg_pool2d(whole, 2), CHROMINANCE, scale)
        fine = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
        grey = _rounded(grey - MIDDLE, LUMINANCE, scale) + MIDDLE
        blue, red = (grey + (2 - 2 * share) * fine[:, k : k + 1] for k, share in enumerate((BLUE, RED)))
        return torch.cat((red, (grey - RED * red - BLUE * blue) / GREEN, blue), 1).to(image.dtype)


def _rounded(
    image: Float[Tensor, "B C H W"], table: tuple[tuple[int, ...], ...], scale: Float[Tensor, "B"]
) -> Float[Tensor, "B C H W"]:
    """Round the coefficients of all blocks to multiples of the scaled steps of a table."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)
    transform = _transform(image.device, image.dtype)
    steps = _steps(table, image.device, image.dtype)
    step = (steps * scale[:, None] + 0.5).floor().clamp(1, LARGEST)[:, None, None, None] / LARGEST
    rounded = ((blocks.flatten(4) @ transform.T / step).round() * step) @ transform
    restored = rounded.view(blocks.shape).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return restored[..., :height, :width]


@constant
def _transform(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "64 64"]:
    """Return the cosine transform of a flat block: the Kronecker product of D with itself."""
    frequency, place = torch.arange(BLOCK, dtype=torch.float64)[:, None], torch.arange(BLOCK, dtype=torch.float64)
    cosines = ((2 * place + 1) * frequency * (math.pi / (2 * BLOCK))).cos() / 2
    cosines[0] /= math.sqrt(2)
    return torch.kron(cosines, cosines).to(device, dtype)


@constant
def _steps(table: tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype) -> Float[Tensor, "64"]:
    return torch.tensor(table, device=device, dtype=dtype).flatten()
