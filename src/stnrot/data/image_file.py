"""One picture in a file: opened, stood upright, brought to 8 bits; what is wrong with it is said with its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stnrot.errors import InputError

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` guards instead: it names the file and can be raised


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file tells. Its pixels are not decoded."""

    pixels: int
    is_grey: bool


def read_header(path: Path, max_pixels: int) -> ImageHeader:
    """Read the header of an image file.

    Raises:
        InputError: if the file is no image, or has more than `max_pixels`.
    """
    with _opened(path, max_pixels) as image:
        is_grey = image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F"))
        return ImageHeader(image.width * image.height, is_grey)


def read_upright(path: Path, channels: int | None, max_pixels: int, fit_into: tuple[int, int]) -> Image.Image:
    """Decode a file as L or RGB, honouring its EXIF orientation.

    Args:
        path: of the file.
        channels: 1 for grey, else colour.
        max_pixels: a larger picture is refused: it would rather be a broken header than a photograph.
        fit_into: width and height that the picture will be made smaller to: a JPEG of more than twice that size is
            decoded smaller, which is faster.
    """
    with _opened(path, max_pixels) as picture:
        if max(picture.size) > 2 * max(fit_into):
            picture.draft(None, (2 * fit_into[0], 2 * fit_into[1]))
        return _to_8_bit(ImageOps.exif_transpose(picture), channels)


def read_whole(path: Path, channels: int | None, max_pixels: int) -> np.ndarray:
    """Decode a file as it is shown, [H, W, C]: bytes or, of more than 8 bits, floats whose range ends at 1."""
    with _opened(path, max_pixels) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith(("I", "F")):
            return np.repeat(_deep(upright)[..., None], channels or 1, 2)
        return np.atleast_3d(np.array(_to_8_bit(upright, channels)))


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > max_pixels:
                raise InputError(
                    f"the image {path} is {picture.width} x {picture.height}: expected at most {max_pixels} pixels; "
                    "shrink it or, in training, raise data.source.max_pixels"
                )
            yield picture
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything on broken files
        raise InputError(f"cannot read the image {path}: {error}") from error


def _to_8_bit(picture: Image.Image, channels: int | None) -> Image.Image:
    """Convert any mode to L or RGB: deep greys by range, not by clipping; transparency onto black."""
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray((_deep(picture).clip(0, 1) * 255).round().astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear)
    return picture.convert("L" if channels == 1 else "RGB")


def _deep(picture: Image.Image) -> np.ndarray:
    """Return greys of more than 8 bits: of 16 in shares of all they can be, of more in shares of the largest."""
    deep = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(deep).all():
        raise ValueError("it holds values that are no numbers (NaN or infinite)")
    most = np.abs(deep).max(initial=0)
    top = 65535.0 if picture.mode.startswith("I") and most <= 65535 else max(most, np.finfo(np.float32).tiny)
    return (deep / top).astype(np.float32)
