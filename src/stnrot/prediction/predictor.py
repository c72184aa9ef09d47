"""A trained model, ready for images as people have them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from stnrot.errors import InputError, needs_extra
from stnrot.geometry import inscribed_disc
from stnrot.image_kinds import ImageKind, to_floats
from stnrot.models.confidence import confidence
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation
from stnrot.prediction.find_model import find_model
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.image_spec import ImageSpec
from stnrot.prediction.predictions import Predictions

WITHIN_5, WITHIN_45 = math.radians(5), math.radians(45)  # of the two confidences


class Predictor(ImagePredictor):
    """A trained model with what belongs to it; `load` returns one.

    Args:
        task: as `rebuild` returns it.
        config: of its run.
        path: where it comes from.
        metrics: what was measured in training, by name; None: not known.

    Raises:
        InputError: if the model does not predict anything of single images.
    """

    def __init__(
        self, task: Any, config: dict[str, Any], path: Path, metrics: Mapping[str, float] | None = None
    ) -> None:
        model = getattr(task, "model", None)
        if not isinstance(model, Model) or model.aligns_to_batch:
            raise InputError(
                f"model={path} is a model of {'pairs' if isinstance(model, Model) else type(task).__name__}: expected "
                "one of single images, from task=classify, or from task=register without data=image_pairs"
            )
        spec = ImageSpec.of_run(config, path)
        super().__init__(spec, path)
        self.metrics: Mapping[str, float] = metrics or {}
        self._task, self._config = task, config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        found = self.predict(torch.zeros(1, *spec.shape)).probability
        if found is not None and found.shape[1] != len(self.classes):
            raise InputError(f"{path} has {len(self.classes)} names of {found.shape[1]} classes: expected one for each")

    def __call__(self, images: ImageKind | str | Path | Sequence[ImageKind | str | Path]) -> Predictions[Tensor]:
        """Predict for images: tensors, NumPy arrays, PIL images, paths of files, or a list of these.

        They may have any size; floats are from 0 to 1. The middle is cut out and scaled to the size that the model was
        trained on.
        """
        items = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        if not items:
            raise InputError("images: expected at least one image, got an empty list")
        return self.predict(torch.cat([self._fitted(item, f"images[{k}]") for k, item in enumerate(items)]))

    def predict_pixels(self, pixels: UInt8[np.ndarray, "B C H W"]) -> Predictions[Tensor]:
        """Predict for decoded images."""
        return self.predict(torch.from_numpy(pixels) / 255)

    @torch.inference_mode()
    def predict(self, batch: Float[Tensor, "B C H W"]) -> Predictions[Tensor]:
        """Predict for images of the size and the channels that the model was trained on."""
        found = [self.numbers(images.to(self.device)) for images in batch.split(self.portion)]
        values: dict[str, Any] = {name: torch.cat([each[name] for each in found]).cpu() for name in found[0]}
        return Predictions(self.classes, **values)

    def numbers(self, image: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """Return the numbers of `Predictions` that the model predicts, by their names, on its device."""
        if self.spec.disc:
            image = image * inscribed_disc(image.shape[-2:], image.device)
        found = self.model(image.contiguous(memory_format=torch.channels_last), None)
        numbers = {} if found.orientation is None else _of_angle(found.orientation)
        if found.log_probability is not None:
            numbers["probability"] = found.log_probability.exp()
        return numbers

    def read(self, path: Path) -> UInt8[Tensor, "C H W"]:
        """Decode a file to the size and the channels of the model."""
        return torch.from_numpy(self.decoding.read(path).copy())

    def save(self, folder: str | Path, *, about: str = "# A model of stnrot", licence: str = "unknown") -> None:
        """Write the model to a new folder, as `stnrot publish` does. `load(folder)` returns it.

        Args:
            folder: to write to.
            about: Markdown that begins the model card: a title, what the model does, its data and its limits.
            licence: of the weights, as the Hugging Face hub names it, such as mit.

        Raises:
            InputError: if the folder holds anything already.
        """
        from stnrot.runs.publish import model_card, write_published

        weights = {name: value.detach().cpu() for name, value in self._task.state_dict().items()}
        checkpoint = {"config": self._config, "state_dict": weights}
        write_published(checkpoint, Path(folder), model_card(about, licence, checkpoint, self.metrics, None), licence)

    def _fitted(self, image: Any, name: str) -> Float[Tensor, "B C H W"]:
        if isinstance(image, str | Path):
            return self.read(Path(image))[None] / 255
        if isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)  # as in a file
        channels = self.spec.channels
        floats = to_floats(image, name).with_channels(channels).float()
        if floats.shape[1] != channels:
            raise InputError(f"{name} has {floats.shape[1]} channels: expected {channels}")
        if not (floats.min() >= 0 and floats.max() <= 1):
            raise InputError(f"{name} has values from {floats.min():.3g} to {floats.max():.3g}: expected 0 to 1")
        return _resized(floats, self.spec.height, self.spec.width, self.spec.fit)


def _of_angle(orientation: Orientation) -> dict[str, Tensor]:
    angle = orientation.angle
    if orientation.log_posterior is None:
        return {"angle": angle}
    turns = (torch.arange(4, device=angle.device, dtype=angle.dtype) * (math.pi / 2)).expand(angle.shape[0], 4)
    quarters = Orientation(turns, torch.zeros_like(turns), orientation.log_posterior)
    return {
        "angle": angle,
        "confidence": confidence(orientation, WITHIN_5),
        "confidence_45": confidence(orientation, WITHIN_45),
        "quarters": confidence(quarters, WITHIN_45),
        "log_posterior": orientation.log_posterior,
    }


def _resized(image: Float[Tensor, "B C H W"], height: int, width: int, fit: str) -> Float[Tensor, "B C h w"]:
    """Scale images as `Decoding` does: fill the frame and cut off what is too long, or pad with black."""
    rows, columns = image.shape[-2:]
    size = (height, width)
    if fit == "crop":
        kept = min(rows, round(columns * height / width)) or 1, min(columns, round(rows * width / height)) or 1
        top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
        image = image[..., top : top + kept[0], left : left + kept[1]]
    else:
        scale = min(height / rows, width / columns)
        size = max(1, round(rows * scale)), max(1, round(columns * scale))
    if size != image.shape[-2:]:
        image = F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)  # as Pillow rounds
    return F.pad(image, (left, width - size[1] - left, top, height - size[0] - top))


def load(source: str | Path, *, trust: Iterable[str] = ()) -> Predictor:
    """Return a trained model, ready for images.

    Args:
        source: the folder of a run, a folder of `stnrot publish`, a checkpoint, or the name of a model that comes with
            the package: `photos` finds the upright of photographs, `digits` reads handwritten digits.
        trust: packages whose classes the model may build, beside stnrot, torch.nn, torchvision and timm. Their code
            runs with your permissions.

    Raises:
        InputError: if there is no such model, or it does not predict anything of single images.

    >>> import torch, stnrot
    >>> found = stnrot.load("photos")(torch.rand(2, 3, 100, 80))
    >>> found.angle.shape
    torch.Size([2, 1])
    """
    with needs_extra("a model"):  # imports Hydra and Lightning, which take seconds
        from stnrot.runs.checkpoints import read_checkpoint, rebuild

    path = find_model(source)
    saved = read_checkpoint(path)
    task = rebuild(saved, path, trust, "add --trust {0}; in Python load(..., trust=['{0}'])")
    return Predictor(task, saved["config"], path)
