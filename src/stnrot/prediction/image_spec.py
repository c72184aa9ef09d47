"""Which images a model reads, and what its numbers mean; it imports no torch."""

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stnrot.data.image_file import MAX_PIXELS
from stnrot.data.sources.decoding import Decoding
from stnrot.errors import InputError

MAX_SIDE, MAX_CHANNELS = 4096, 16  # of the images of a model
MAX_IMAGES, MAX_VALUES = 256, 2**24  # that are read together
KEY = "stnrot"  # of the metadata of an exported file
VALUES = "float32 [B, channels, height, width], red green blue or grey, from 0 (black) to 1 (white)"
ANGLES = (
    "radians; positive is counter-clockwise as displayed; rotating the image by it about its centre makes it upright"
)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What a model expects of images.

    Attributes:
        channels: 1 for grey, 3 for colour.
        height: of an image, in pixels.
        width: of an image, in pixels.
        fit: how an image of another size is fitted, see `Decoding`.
        disc: whether the model reads the inscribed disc alone. A predictor and an exported graph set the rest to 0.
        classes: their names; none from a model without a classifier.
    """

    channels: int
    height: int
    width: int
    fit: str
    disc: bool
    classes: tuple[str, ...]

    @staticmethod
    def of_run(config: dict[str, Any], path: Path) -> "ImageSpec":
        """Return what the configuration of a run says.

        Raises:
            InputError: if it is not one of this project.
        """
        source = config["data"].get("source")
        if not isinstance(source, dict):
            raise _unknown(path)
        found = config["data_spec"] | {"fit": source.get("fit", "crop"), "disc": config["data"].get("border") == "disc"}
        spec = _checked(found | {"classes": found.get("class_names")}, path)
        return spec if config["model"].get("classifier") else replace(spec, classes=())

    @staticmethod
    def of_metadata(text: str | None, path: Path) -> "ImageSpec":
        """Return what the metadata of an exported file says.

        Raises:
            InputError: if it was not written by `stnrot export`.
        """
        try:
            found = json.loads(text or "")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{path} has no metadata of stnrot: expected a file that stnrot export wrote")
        return _checked(found, path)

    def metadata(self) -> str:
        """Return it as JSON, with the conventions in words."""
        described = {
            "stnrot": version("stnrot"),
            "input": VALUES,
            "angle": ANGLES,
            "confidence": "error below 5 degrees",
            "confidence_45": "error below 45 degrees",
        }
        return json.dumps(described | asdict(self))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return self.channels, self.height, self.width

    @property
    def decoding(self) -> Decoding:
        """Return how files are read."""
        return Decoding(
            image_size=(self.height, self.width),
            fit=self.fit,
            channels=self.channels,
            max_pixels=MAX_PIXELS,
            on_bad_image="error",
            memory_gb=None,
        )

    @property
    def portion(self) -> int:
        """Return how many images are read together."""
        return max(1, min(MAX_IMAGES, MAX_VALUES // (self.channels * self.height * self.width)))


def _checked(found: dict[str, Any], path: Path) -> ImageSpec:
    sides = [found.get(name) for name in ("channels", "height", "width")]
    names = found.get("classes")
    if (
        not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides)
        or found["channels"] > MAX_CHANNELS
        or not (isinstance(names, list) and all(isinstance(name, str) for name in names))
        or found.get("fit") not in ("crop", "pad")
        or type(found.get("disc")) is not bool
    ):
        raise _unknown(path)
    kept = {name: found[name] for name in ("channels", "height", "width", "fit", "disc")}
    return ImageSpec(**kept, classes=tuple(names))


def _unknown(path: Path) -> InputError:
    return InputError(f"{path} has a configuration that train.py does not write: expected sizes and classes")
