"""Run an exported model by ONNX Runtime, without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from stnrot.errors import InputError, needs_extra, reason_of
from stnrot.machine import allowed_cores
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.image_spec import KEY, ImageSpec
from stnrot.prediction.predictions import Predictions
from stnrot.regular_file import check_regular

SUFFIX = ".onnx"


class OnnxPredictor(ImagePredictor):
    """A model that `stnrot export` wrote as ONNX, on the CPU. It imports no torch, so it starts fast.

    Args:
        path: of the file.
        threads: of ONNX Runtime; None takes the cores that the process may use.

    Raises:
        InputError: if it is not such a file.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        with needs_extra("an ONNX model", "export"):
            import onnxruntime

        path = Path(path)
        check_regular(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads or allowed_cores(), 3
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            described = self._session.get_modelmeta().custom_metadata_map.get(KEY)
            self._input = self._session.get_inputs()[0].name
            self._outputs = [each.name for each in self._session.get_outputs()]
        except Exception as error:  # each kind of failure has a class of its own
            raise InputError(
                f"{path} cannot be read: {reason_of(error)}; expected a file that stnrot export wrote"
            ) from error
        super().__init__(ImageSpec.of_metadata(described, path), path)
        try:
            found = self.predict(np.zeros((1, *self.spec.shape), np.float32)).probability
        except Exception as error:
            raise InputError(f"{path} cannot be run: {reason_of(error)}; export the model again") from error
        if (0 if found is None else found.shape[1]) != len(self.classes):
            raise InputError(f"{path} has {len(self.classes)} names of classes: expected one for each class")

    def __call__(
        self, images: Image.Image | str | Path | Sequence[Image.Image | str | Path]
    ) -> Predictions[np.ndarray]:
        """Predict for PIL images, paths of files, or a list of these, of any size."""
        items = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        if not items:
            raise InputError("images: expected at least one image, got an empty list")
        return self.predict_pixels(np.stack([self._fitted(item, k) for k, item in enumerate(items)]))

    def predict_pixels(self, pixels: UInt8[np.ndarray, "B C H W"]) -> Predictions[np.ndarray]:
        """Predict for decoded images."""
        return self.predict(pixels.astype(np.float32) / 255)

    def predict(self, batch: Float[np.ndarray, "B C H W"]) -> Predictions[np.ndarray]:
        """Predict for images, float32 from 0 to 1, of the size and the channels that the model was trained on."""
        portions = [batch[start : start + self.portion] for start in range(0, len(batch), self.portion)]
        runs = [self._session.run(self._outputs, {self._input: portion}) for portion in portions]
        values: dict[str, Any] = dict(zip(self._outputs, map(np.concatenate, zip(*runs, strict=True)), strict=True))
        return Predictions(self.classes, **values)

    def _fitted(self, image: Any, number: int) -> UInt8[np.ndarray, "C H W"]:
        if isinstance(image, str | Path):
            return self.decoding.read(Path(image))
        if isinstance(image, Image.Image):
            return self.decoding.fitted(image)
        kind = type(image).__name__
        raise InputError(f"images[{number}]: expected a PIL image or the path of a file, got {kind}")
