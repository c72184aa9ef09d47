"""What encoders and models return."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Orientation:
    """Hypotheses on the angle that lines an image up with its reference, best first.

    `angle` in radians; `log_weight` sums to one, as weights, over the hypotheses. `log_posterior` is that
    of A equal bins of the circle, bin i at `2 pi i / A`, from an encoder that searches; None from one
    that regresses. It sums to one, as probabilities, but in the training of an encoder that also searches the
    centre: there to what is left for the true one.
    """

    angle: Float[Tensor, "B K"]
    log_weight: Float[Tensor, "B K"]
    log_posterior: Float[Tensor, "B A"] | None

    @classmethod
    def cat(cls, parts: Sequence["Orientation"]) -> "Orientation":
        """Concatenate along the batch. All parts have a posterior."""
        return cls(
            torch.cat([part.angle for part in parts]),
            torch.cat([part.log_weight for part in parts]),
            torch.cat([part.log_posterior for part in parts if part.log_posterior is not None]),
        )

    @classmethod
    def where(cls, condition: Bool[Tensor, "B 1"], a: "Orientation", b: "Orientation") -> "Orientation":
        """Take `a` where the condition holds, else `b`. Both have a posterior of the same bins."""
        assert a.log_posterior is not None
        assert b.log_posterior is not None
        return cls(
            torch.where(condition, a.angle, b.angle),
            torch.where(condition, a.log_weight, b.log_weight),
            torch.where(condition, a.log_posterior, b.log_posterior),
        )


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch; None for what it does not do.

    `aligned` is the image turned by the best hypothesis; `reference` the picture, if it is one, that it was to line up
    with; `log_probability` the classifier's, mixed over the hypotheses.
    """

    orientation: Orientation | None
    aligned: Float[Tensor, "B C H W"] | None
    reference: Float[Tensor, "B C H W"] | None
    log_probability: Float[Tensor, "B classes"] | None


@dataclass(frozen=True)
class PoseEstimate:
    """In which poses a solid seems to be seen, as angles (radians) and the rotations that they make.

    `error` is the angle (radians) between those and the true ones, as far as it can be seen.
    """

    angles: Float[Tensor, "B axes"]
    rotation: Float[Tensor, "B 3 3"]
    error: Float[Tensor, "B"]
