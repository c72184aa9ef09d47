"""What encoders and models return."""

from dataclasses import dataclass

from jaxtyping import Float
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
