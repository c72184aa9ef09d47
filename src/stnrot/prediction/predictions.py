"""What a model says about images, as tensors or, without torch, as NumPy arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from stnrot.errors import InputError

Values = TypeVar("Values")


@dataclass(frozen=True)
class Predictions(Generic[Values]):
    """What a model says about images, in their order.

    Attributes:
        classes: names of the classes.
        angle: [B, K], hypotheses of the angle (radians) that rotates an image upright, best first. None from a model
            that does not predict it.
        confidence: [B, K], the probability that the error of each is below 5 degrees. None without a posterior over the
            angle.
        confidence_45: [B, K], the same for 45 degrees: an angle that is off by more turns an upright image wrongly.
        quarters: [B, 4], the probability that the right angle is within 45 degrees of 0, 90, 180 and 270 degrees. None
            without a posterior.
        log_posterior: [B, A], log-probabilities of A equal bins of the circle, bin i at the angle `2 pi i / A`. None
            without a posterior; exported files leave it out.
        probability: [B, classes], of each class. None from a model without a classifier.
    """

    classes: tuple[str, ...]
    angle: Values | None = None
    confidence: Values | None = None
    confidence_45: Values | None = None
    quarters: Values | None = None
    log_posterior: Values | None = None
    probability: Values | None = None

    def check_finite(self, path: Path) -> None:
        """Raise InputError if a number is NaN or infinite. The model comes from `path`."""
        numbers: tuple[Any, ...] = (self.angle, self.confidence, self.confidence_45, self.quarters, self.probability)
        if not all(np.isfinite(np.asarray(each)).all() for each in numbers if each is not None):
            raise InputError(
                f"model={path} gives numbers that are not finite (NaN): its weights are broken; train it again, or "
                "choose another"
            )

    @property
    def label(self) -> list[str] | None:
        """The most probable class of each image."""
        probability: Any = self.probability
        return None if probability is None else [self.classes[k] for k in probability.argmax(1).tolist()]
