"""How image files become arrays of one size."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps

from stnrot.data.image_file import read_upright, to_8_bit
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.headers import read_headers
from stnrot.errors import InputError, check_choice, check_number

log = logging.getLogger(__name__)
D = TypeVar("D", bound="Decoding")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Decode image files to arrays of one size.

    Args:
        image_size: height and width of the result. The aspect ratio of an image is kept.
        fit: `crop` fills the result and cuts off what is too long; `pad` shows the whole image on black. When an image
            is rotated, the black bars of `pad` rotate with it and give the angle away. Use `pad` for images that are
            black around the object anyway.
        channels: 1 for grey, 3 for colour; None is grey if every file is grey, else colour.
        max_pixels: an image with more pixels counts as bad.
        on_bad_image: `error` stops at a file that is unreadable, truncated or too large; `skip` warns and leaves the
            file out. Both name the file.
        memory_gb: a data set of at most this size (in gigabytes, decoded) is kept in memory, a larger one is streamed;
            None is a quarter of the memory that the process may use.
    """

    image_size: Sequence[int]
    fit: str
    channels: int | None
    max_pixels: int
    on_bad_image: str
    memory_gb: float | None

    def __post_init__(self) -> None:
        sides = self.image_size if isinstance(self.image_size, Sequence) else ()
        if len(sides) != 2 or not all(type(side) is int and side >= 4 for side in sides):
            raise InputError(
                f"image_size={self.image_size}: expected a height and a width of at least 4, such as [64,64]"
            )
        check_choice("fit", self.fit, "crop", "pad")
        check_choice("on_bad_image", self.on_bad_image, "error", "skip")
        check_choice("channels", self.channels, 1, 3, None)
        check_number("max_pixels", self.max_pixels, 1)
        if self.memory_gb is not None:
            check_number("memory_gb", self.memory_gb, 0, whole=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of what is read."""
        height, width = self.image_size
        return self.channels or 3, height, width

    def read(self, path: Path, content: bytes | None = None) -> UInt8[np.ndarray, "C H W"]:
        """Decode one file, with its EXIF orientation applied; see `read_upright`."""
        height, width = self.image_size
        return self._resized(read_upright(path, self.channels, self.max_pixels, (width, height), content))

    def fitted(self, image: Image.Image) -> UInt8[np.ndarray, "C H W"]:
        """Do the same with an image that is open."""
        return self._resized(to_8_bit(ImageOps.exif_transpose(image), self.channels))

    def _resized(self, upright: Image.Image) -> UInt8[np.ndarray, "C H W"]:
        height, width = self.image_size
        if upright.size == (width, height):
            resized = upright
        elif self.fit == "crop":
            resized = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
        else:
            resized = _padded(upright, width, height)
        return np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1)

    def readable(self, root: Path, names: FileNames, per_sample: int) -> tuple[Int64[np.ndarray, "M"], bool]:
        """Return the places of the samples whose headers are all good, and whether all these are grey.

        Args:
            root: the folder or table that lists the files, see `read_headers`.
            names: of the files, those of a sample one after another.
            per_sample: number of files in a sample.
        """
        headers = read_headers(root, names, self.max_pixels)
        good = np.ones(len(names), bool)
        for place, error in headers.errors.items():
            good[place] = not self.is_bad(error)
        samples = good.reshape(-1, per_sample).all(1)
        return samples.nonzero()[0], bool(headers.is_grey.reshape(-1, per_sample)[samples].all())

    def with_channels(self: D, all_grey: bool) -> D:
        """Return this decoding with its channels set."""
        return replace(self, channels=self.channels or (1 if all_grey else 3))

    def is_bad(self, result: object) -> bool:
        """Return whether reading a file gave an error. `on_bad_image` decides: raise it, or log it as a warning."""
        if not isinstance(result, InputError):
            return False
        if self.on_bad_image == "error":
            raise InputError(f"{result}; data.source.on_bad_image=skip leaves it out") from result
        log.warning("skipped: %s", result)
        return True


def _padded(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale an image into a black frame. `ImageOps.pad` of Pillow 12 refuses a strip that becomes less than a pixel."""
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    frame = Image.new(image.mode, (width, height))
    place = round((width - inner[0]) / 2), round((height - inner[1]) / 2)
    frame.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
    return frame
