"""Read one image file: its header, or its pixels as they are shown. Every error names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps

from stnrot.errors import InputError

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` limits the size instead: its error names the file, and users can raise it


class ImageHeader(NamedTuple):
    """Facts from the header of an image file. Its pixels are not decoded."""

    pixels: int  # width times height
    is_grey: bool  # with or without transparency


def read_header(path: Path, max_pixels: int) -> ImageHeader:
    """Read the header of an image file.

    Raises:
        InputError: if the file is no image, or has more than `max_pixels`.
    """
    with _opened(path, max_pixels) as image:
        return ImageHeader(image.width * image.height, image.mode in ("1", "L", "LA") or _is_deep(image))


def read_upright(path: Path, channels: int | None, max_pixels: int, fit_into: tuple[int, int]) -> Image.Image:
    """Decode a file to 8 bits, L or RGB, with its EXIF orientation applied.

    Args:
        path: file to read.
        channels: 1 for grey, any other value for colour.
        max_pixels: a larger image raises InputError: its header is more likely broken than true.
        fit_into: width and height that the caller shrinks the image to. A JPEG of more than twice that size is decoded
            at a smaller size, which is faster.
    """
    with _opened(path, max_pixels) as image:
        if max(image.size) > 2 * max(fit_into):
            image.draft(None, (2 * fit_into[0], 2 * fit_into[1]))
        return _to_8_bit(ImageOps.exif_transpose(image), channels)


def read_whole(path: Path, channels: int | None, max_pixels: int) -> Shaped[np.ndarray, "H W C"]:
    """Decode a file at its full depth, with its EXIF orientation applied.

    The values are bytes. An image of more than 8 bits gives floats instead, of at most 1.
    """
    with _opened(path, max_pixels) as image:
        upright = ImageOps.exif_transpose(image)
        if _is_deep(upright):
            return np.repeat(_deep(upright)[..., None], channels or 1, 2)
        return np.atleast_3d(np.array(_to_8_bit(upright, channels)))


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise InputError(
                    f"the image {path} is {image.width} x {image.height}: expected at most {max_pixels} pixels; "
                    "shrink it or, in training, raise data.source.max_pixels"
                )
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no image {path}: expected the path of an image file") from error
    except Exception as error:  # a decoder can raise almost anything on a broken file
        raise InputError(f"cannot read the image {path}: {error}; expected a whole image file") from error


def _is_deep(image: Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def _to_8_bit(image: Image.Image, channels: int | None) -> Image.Image:
    """Convert any mode to L or RGB. Deep greys are scaled, not clipped; transparent parts become black."""
    if _is_deep(image):
        image = Image.fromarray((_deep(image).clip(0, 1) * 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        transparent = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", transparent.size, (0, 0, 0, 255)), transparent)
    return image.convert("L" if channels == 1 else "RGB")


def _deep(image: Image.Image) -> Float[np.ndarray, "H W"]:
    """Return the values of a deep grey image, divided by 65,535 if it has 16 bits and by the largest value if more."""
    deep = np.asarray(image, dtype=np.float64)
    if not np.isfinite(deep).all():
        raise ValueError("it holds values that are not numbers (NaN or infinite)")
    most = np.abs(deep).max(initial=0)
    top = 65535.0 if image.mode.startswith("I") and most <= 65535 else max(most, np.finfo(np.float32).tiny)
    return (deep / top).astype(np.float32)
