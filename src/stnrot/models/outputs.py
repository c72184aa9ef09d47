"""The records that encoders and models return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry import rotate
from stnrot.geometry.planar import Mode


@dataclass(frozen=True)
class Orientation:
    """Hypotheses of the angle that aligns an image with its reference, best first.

    Attributes:
        angle: radians.
        log_weight: the weights of the hypotheses; as weights they sum to one.
        log_posterior: log-probabilities of A equal bins of the circle, bin i at the angle `2 pi i / A`. None from an
            encoder that regresses the angle. The probabilities sum to one, with one exception: in training, an encoder
            with a centre search returns those of the true centre alone, and they sum to the probability of that centre.
    """

    angle: Float[Tensor, "B K"]
    log_weight: Float[Tensor, "B K"]
    log_posterior: Float[Tensor, "B A"] | None

    @staticmethod
    def cat(parts: "Sequence[Orientation]") -> "Orientation":
        """Concatenate along the batch.

        >>> one = Orientation(torch.zeros(2, 1), torch.zeros(2, 1), None)
        >>> Orientation.cat([one, one]).angle.shape
        torch.Size([4, 1])
        """
        return _by_field(torch.cat, parts)

    @staticmethod
    def where(mask: Bool[Tensor, "B"], new: "Orientation", old: "Orientation") -> "Orientation":
        """Take the samples of the batch from `new` where `mask` is True, and from `old` elsewhere."""
        return _by_field(lambda pair: torch.where(mask[:, None], pair[0], pair[1]), [new, old])


def _by_field(combine: Callable[[list[Tensor]], Tensor], parts: Sequence[Orientation]) -> Orientation:
    """Combine the values of each field; a field that is None in every part stays None."""
    combined: dict[str, Any] = {}
    for field in fields(Orientation):
        values = [getattr(part, field.name) for part in parts]
        absent = sum(value is None for value in values)
        if 0 < absent < len(values):
            raise ValueError(f"Orientation.{field.name}: expected a tensor in all parts or in none, got {absent} None")
        combined[field.name] = None if absent else combine(values)
    return Orientation(**combined)


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for a batch. A field is None if the model does not predict it.

    Attributes:
        orientation: hypotheses of the angle.
        aligned: the image, rotated by the best hypothesis.
        reference: the image that it was aligned with; None also if the reference is not an image.
        log_probability: of each class, mixed over the hypotheses.
    """

    orientation: Orientation | None
    aligned: Float[Tensor, "B C H W"] | None
    reference: Float[Tensor, "B C H W"] | None
    log_probability: Float[Tensor, "B classes"] | None


class RotatedPrediction(Prediction):
    """A prediction whose `aligned` is computed when it is first read: most training steps do not read it.

    It has the gradient that the context of this first reading allows.

    Args:
        image: the image, to be rotated by the best hypothesis; not read if `aligned` is given. Do not write into it
            before `aligned` is read.
        orientation: hypotheses of the angle.
        reference: the image to align with, as in `Prediction`.
        log_probability: of each class.
        aligned: the rotated image, if it is known; `dataclasses.replace` passes it on.
        interpolation: of the rotation, see `geometry.sample`.
    """

    def __init__(
        self,
        image: Float[Tensor, "B C H W"] | None = None,
        orientation: Orientation | None = None,
        reference: Float[Tensor, "B C H W"] | None = None,
        log_probability: Float[Tensor, "B classes"] | None = None,
        aligned: Float[Tensor, "B C H W"] | None = None,
        interpolation: Mode = "bilinear",
    ) -> None:
        self.__dict__.update(image=image, interpolation=interpolation)
        self.__dict__.update(orientation=orientation, reference=reference, log_probability=log_probability)
        if aligned is not None:
            self.__dict__["aligned"] = aligned

    @cached_property
    def aligned(self) -> Float[Tensor, "B C H W"]:
        """Return the image, rotated by the best hypothesis."""
        assert self.orientation is not None
        return rotate(self.__dict__["image"], self.orientation.angle[:, 0], self.__dict__["interpolation"])


@dataclass(frozen=True)
class PoseEstimate:
    """Predicted poses of a solid.

    Attributes:
        angles: radians, about the axes of the solid's data.
        rotation: the rotation matrices that the angles make.
        error: angle (radians) between each predicted pose and the true one. Poses that look the same have error 0.
    """

    angles: Float[Tensor, "B axes"]
    rotation: Float[Tensor, "B 3 3"]
    error: Float[Tensor, "B"]
