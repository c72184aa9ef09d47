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


@checked
def jpeg(image: Float[Tensor, "B C H W"], quality: Float[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
    r"""Compress images as JPEG does, and decompress them: each block of 8 x 8 pixels loses its faint details.

    The cosine transform of a block is rounded to multiples of steps:

        x' = D^T (round(D x D^T / Q) * Q) D,  D_kn = c_k cos((2 n + 1) k pi / 16),  c_0^2 = 1/8, else c_k^2 = 1/4.

    The steps Q are those of the standard's table for the luminance (ITU-T T.81, Information technology: digital
    compression and coding of continuous-tone still images, 1992, table K.1), multiplied by 50 / quality below a quality
    of 50 and by 2 - quality / 50 from there, as in libjpeg. Each channel is compressed like a grey image; the colours
    of a JPEG file have coarser steps. The image is continued by its border to whole blocks.

    Rounding has no gradient, so the gradient of the result is zero. Values are not clamped.

    Args:
        image: with values in [0, 1].
        quality: of each image, from 1 to 100; the nearest of these for others.

    >>> jpeg(torch.rand(2, 3, 20, 30), torch.tensor([50.0, 90.0])).shape
    torch.Size([2, 3, 20, 30])
    """
    (wide, quality), (height, width) = same_type(image, quality), image.shape[-2:]
    padded = F.pad(wide, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)
    transform, table = _transform(wide.device, wide.dtype), _table(wide.device, wide.dtype)
    quality = quality.clamp(1, 100)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    step = (table * scale[:, None] + 0.5).floor().clamp(1, LARGEST)[:, None, None, None] / LARGEST
    with without_autocast(image):
        coefficients = (blocks - MIDDLE).flatten(4) @ transform.T
        rounded = ((coefficients / step).round() * step) @ transform
    restored = rounded.view(blocks.shape).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return (restored[..., :height, :width] + MIDDLE).to(image.dtype)


@constant
def _transform(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "64 64"]:
    """Return the cosine transform of a flat block: the Kronecker product of D with itself."""
    frequency, place = torch.arange(BLOCK, dtype=torch.float64)[:, None], torch.arange(BLOCK, dtype=torch.float64)
    cosines = ((2 * place + 1) * frequency * (math.pi / (2 * BLOCK))).cos() / 2
    cosines[0] /= math.sqrt(2)
    return torch.kron(cosines, cosines).to(device, dtype)


@constant
def _table(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "64"]:
    return torch.tensor(LUMINANCE, device=device, dtype=dtype).flatten()
