"""How image files become arrays of one size."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from stnrot.data.image_file import ImageHeader, read_header, read_upright, to_8_bit
from stnrot.errors import InputError, check_choice, check_number
from stnrot.machine import thread_pool

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

    def readable(self: D, samples: Sequence[tuple[Path, ...]]) -> tuple[list[int], D]:
        """Return the places of the samples whose headers are all good, and this decoding with its channels set."""

        def headers(files: tuple[Path, ...]) -> list[ImageHeader] | InputError:
            try:
                return [read_header(file, self.max_pixels) for file in files]
            except InputError as error:
                return error

        with thread_pool() as pool:
            found = list(pool.map(headers, samples))
        good = [i for i, answer in enumerate(found) if not self.is_bad(answer)]
        grey = all(header.is_grey for answer in found if isinstance(answer, list) for header in answer)
        return good, replace(self, channels=self.channels or (1 if grey else 3))

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
