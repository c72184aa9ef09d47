"""What every model of single images has for the commands, with torch or without."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stnrot.prediction.image_spec import ImageSpec
from stnrot.prediction.predictions import Predictions


class ImagePredictor(ABC):
    """A model of single images.

    Attributes:
        path: where it comes from.
        spec: of its images.
        classes: names of the classes.
        decoding: reads files to the size and the channels of the model.
        portion: how many images are read together.
    """

    def __init__(self, spec: ImageSpec, path: Path) -> None:
        self.path, self.spec, self.classes = path, spec, spec.classes
        self.decoding, self.portion = spec.decoding, spec.portion

    @abstractmethod
    def predict_pixels(self, pixels: UInt8[np.ndarray, "B C H W"]) -> Predictions[Any]:
        """Predict for decoded images."""
