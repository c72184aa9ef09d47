"""Batches of pairs of images: split into chunks, reduced to one size."""

import math
from collections.abc import Iterable
from itertools import repeat

from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.resampling import shrink

MAX_SIDE = 128  # pixels of the shorter side; twice as many improve the angle by a thousandth of a degree
CHUNK = 2**17  # values of the images that are aligned at once: on a CPU, what fits into the cache is fastest


def chunks(images: Tensor, references: Tensor, values: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Split images and references into batches of at most `values` values."""
    count = max(1, values // max(math.prod(images.shape[1:]), math.prod(references.shape[1:])))
    if len(images) <= count:
        return [(images, references)]
    reference_chunks = references.split(count) if len(references) > 1 else repeat(references)
    return zip(images.split(count), reference_chunks, strict=False)


def shrink_pair(
    image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]
) -> tuple[Float[Tensor, "B C _ _"], Float[Tensor, "R C _ _"]]:
    """Cut both images to their middle squares, and reduce these to one size."""
    side = min(*image.shape[-2:], *reference.shape[-2:], MAX_SIDE)
    return shrink_square(image, side), shrink_square(reference, side)


def shrink_square(image: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C h w"]:
    """Cut to the middle square and reduce it to `side` with antialiasing, in time linear in the number of pixels.

    Everything outside the middle square is cut off first. Rounding the longer side would stretch the image, by a
    fortieth of a degree at 1,000 pixels.
    """
    shorter = min(image.shape[-2:])
    if shorter == side:
        return image
    for dim in (-2, -1):
        extra = image.shape[dim] - shorter
        if extra % 2:  # the middle lies between two pixels
            image = (image.narrow(dim, 0, shorter + extra - 1) + image.narrow(dim, 1, shorter + extra - 1)) / 2
        image = image.narrow(dim, extra // 2, shorter)
    return shrink(image, side, side)
