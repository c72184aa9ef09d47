"""The two records of data: `RawBatch` as it leaves a data set, `Batch` as a model sees it."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class RawBatch(NamedTuple):
    """Bytes of a batch before rotation, on any device.

    `draw` numbers the samples of a whole training run, `draw = epoch * length + index`, so that every
    random choice about a sample is a function of (seed, draw). What is unknown is None.
    """

    draw: Tensor  # int64 [B]
    image: Tensor  # uint8 [B, C, H, W]
    reference: Tensor | None  # uint8 [B, C, H, W]
    angle: Tensor | None  # float32 [B], rotates image onto reference
    label: Tensor | None  # int64 [B]


@dataclass(frozen=True)
class Batch:
    """What a task is given. `index` is the sample's place in its set; what is unknown is None.

    Rotating `image` by `angle` (radians) lines it up with `reference` or, where there is no reference
    image, with the upright picture.
    """

    index: Int[Tensor, "B"]
    image: Float[Tensor, "B C H W"]
    reference: Float[Tensor, "B C H W"] | None
    angle: Float[Tensor, "B"] | None
    label: Int[Tensor, "B"] | None
