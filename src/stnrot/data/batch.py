"""The two records of image data: `RawBatch` as a data set returns it, `Batch` as a task receives it."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class RawBatch(NamedTuple):
    """A batch of bytes before rotation, on any device. What is unknown is None.

    `counter` numbers the samples of a whole training run: `counter = epoch * length + index`. So every random choice
    about a sample is a function of (seed, counter).
    """

    counter: Tensor  # int64 [B]
    image: Tensor  # uint8 [B, C, H, W]
    reference: Tensor | None  # uint8 [B, C, H, W]
    angle: Tensor | None  # float32 [B], rotates image onto reference
    label: Tensor | None  # int64 [B]


@dataclass(frozen=True)
class Batch:
    """A batch of images as a task receives it. What is unknown is None.

    `index` is the place of a sample in its set. If `image` is rotated by `angle` (radians), it is aligned with
    `reference` or, without a reference image, upright.
    """

    index: Int[Tensor, "B"]
    image: Float[Tensor, "B C H W"]
    reference: Float[Tensor, "B C H W"] | None
    angle: Float[Tensor, "B"] | None
    label: Int[Tensor, "B"] | None
