"""Read one image file: its header, or its pixels as they are shown. Every error names the file."""

import io
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageOps

from stnrot.errors import InputError
from stnrot.regular_file import check_regular

MAX_PIXELS = 2**28  # of a file that a person names; training has data.source.max_pixels
PROGRAMS = ("EPS",)  # formats that are programs: Pillow has Ghostscript run them
ORIENTATION, TURNED = 274, range(5, 9)  # the tag of EXIF, and its values that exchange width and height
SUBFILE, COPY_OR_MASK = 254, 0b101  # the tag NewSubfileType of TIFF, and bits of its value


class ImageHeader(NamedTuple):
    """Facts from the header of an image file. Its pixels are not decoded."""

    pixels: int  # width times height
    is_grey: bool  # with or without transparency


def read_header(path: Path, max_pixels: int) -> ImageHeader:
    """Read the header of an image file.

    Raises:
        InputError: if the file is no image, or has more than `max_pixels`.
    """
    with opened(path, max_pixels) as image:
        return ImageHeader(image.width * image.height, image.mode in ("1", "L", "LA") or _is_deep(image))


def read_upright(
    path: Path, channels: int | None, max_pixels: int, fit_into: tuple[int, int], content: bytes | None = None
) -> Image.Image:
    """Decode a file to 8 bits, L or RGB, with its EXIF orientation applied.

    Args:
        path: file to read.
        channels: 1 for grey, any other value for colour.
        max_pixels: a larger image raises InputError: its header is more likely broken than true.
        fit_into: width and height that the caller shrinks the image to. A JPEG of more than twice that size is decoded
            at a smaller size, which is faster.
        content: of the file, if it lies in another file; `path` then names it in errors.
    """
    with opened(path, max_pixels, content) as image:
        if max(image.size) > 2 * max(fit_into):
            width, height = fit_into[::-1] if image.getexif().get(ORIENTATION) in TURNED else fit_into
            image.draft(None, (2 * width, 2 * height))
        ImageOps.exif_transpose(image, in_place=True)
        return to_8_bit(image, channels)


def read_whole(path: Path, channels: int | None, max_pixels: int) -> Shaped[np.ndarray, "H W C"]:
    """Decode a file at its full depth, with its EXIF orientation applied.

    The values are bytes. An image of more than 8 bits gives floats instead, of at most 1.

    Raises:
        InputError: also for a TIFF file of several pages. Values of its first page would look like those of the file.
    """
    with opened(path, max_pixels) as image:
        if len(list(islice(_pages(image), 2))) > 1:
            raise InputError(
                f"the image {path} has several pages: expected one; align all pages with stnrot align --stack, or save "
                "one of them as a file of its own"
            )
        image.seek(0)  # a further page can be a smaller copy of the first
        _prepare(image)
        upright = ImageOps.exif_transpose(image)
        if _is_deep(upright):
            return np.repeat(_deep(upright)[..., None], channels or 1, 2)
        return np.atleast_3d(np.array(to_8_bit(upright, channels)))


def page_numbers(path: Path, max_pixels: int) -> list[int]:
    """Return the numbers, from 0, of the pages of a TIFF file. Another image file has the page 0.

    Pages that are smaller copies or masks of others do not count. The last number can be that of a page that cannot be
    read.

    Raises:
        InputError: if the first page cannot be read.
    """
    with opened(path, max_pixels) as image:
        return list(_pages(image))


def read_pages(path: Path, pages: Sequence[int], max_pixels: int) -> Iterator[Image.Image | InputError]:
    """Yield pages of an image file in their modes, with their EXIF orientations applied; or an error for a page."""
    try:
        with opened(path, max_pixels) as image:
            for page in pages:
                yield _page(image, path, page, max_pixels)
    except InputError as error:
        yield from [error] * len(pages)


def _page(image: Image.Image, path: Path, page: int, max_pixels: int) -> Image.Image | InputError:
    name = f"page {page + 1} of {path}" if page else f"the image {path}"
    try:
        image.seek(page)
        if image.width * image.height > max_pixels:
            return InputError(f"{name} is {image.width} x {image.height}: expected at most {max_pixels} pixels")
        if not _is_deep(image) and ";16" in str(getattr(image, "tile", "")):  # Pillow would read 8 of them
            return InputError(f"{name} has 16 bits in each of several channels: expected 8, or grey; convert it")
        _prepare(image)
        return ImageOps.exif_transpose(image)
    except Exception as error:  # a decoder can raise almost anything on a broken file
        return InputError(f"cannot read {name}: {error}; expected a whole image file")


def _pages(image: Image.Image) -> Iterator[int]:
    """Yield the numbers of pages; see `page_numbers`."""
    yield 0
    if image.format != "TIFF":
        return
    for page in count(1):
        try:
            image.seek(page)
        except EOFError:
            return
        except Exception:  # of a broken page, which has no link to a next one
            yield page
            return
        if not image.tag_v2.get(SUBFILE, 0) & COPY_OR_MASK:  # type: ignore[attr-defined]
            yield page


@contextmanager
def opened(path: Path, max_pixels: int, content: bytes | None = None) -> Iterator[Image.Image]:
    """Yield an image whose pixels are not decoded yet. Every error inside becomes an InputError that names the file.

    Args:
        path: of the file.
        max_pixels: a larger image raises InputError.
        content: of the file, if it is not written yet, or lies in another file.
    """
    check_regular(path)
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            image = _identified(file, str(path) if content is None else "")
            if image.width * image.height > max_pixels:
                raise InputError(
                    f"the image {path} is {image.width} x {image.height}: expected at most {max_pixels} pixels; "
                    "shrink it or, in training, raise data.source.max_pixels"
                )
            _prepare(image)
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # of WebP and ICO: Pillow compares the size while it opens the file
        raise InputError(
            f"cannot read the image {path}: {error} Expected an image of another format, such as PNG; convert it, or "
            "raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"there is no image {path}: expected the path of an image file") from error
    except struct.error as error:  # its words are about buffers
        raise InputError(
            f"cannot read the image {path}: its data or its EXIF data is broken; expected a whole image file"
        ) from error
    except Exception as error:  # a decoder can raise almost anything on a broken file
        raise InputError(f"cannot read the image {path}: {error}; expected a whole image file") from error


def _identified(file: IO[bytes] | io.BytesIO, name: str) -> Image.Image:
    """Open an image as `Image.open` does, but without Pillow's limit on the number of pixels.

    The limit, `PIL.Image.MAX_IMAGE_PIXELS`, holds for the whole process and all its threads, and belongs to the user.
    `max_pixels` limits the size here: its error names the file.
    """
    start = file.read(16)
    if not start:
        raise ValueError("it is empty")
    for load_formats in (Image.preinit, Image.init):  # the common formats, then all
        load_formats()
        for name in [each for each in Image.ID if each not in PROGRAMS]:
            open_format, accepts = Image.OPEN[name]
            try:
                accepted = accepts is None or accepts(start)
                if not accepted or isinstance(accepted, str):  # a string says why a format is not supported
                    continue
                file.seek(0)
                return open_format(file, name)  # Pillow maps the file of a name into memory
            except (SyntaxError, IndexError, TypeError, struct.error):  # not this format
                continue
    raise ValueError("it has none of the image formats that Pillow reads")


def _prepare(image: Image.Image) -> None:
    """Give a TIFF file the memory for its pixels. Otherwise Pillow compares its size with the limit once more."""
    if image.format == "TIFF" and image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        size = getattr(image, "_tile_size", image.size)  # width and height before the EXIF orientation
        image.im = Image.new(image.mode, size).im


def _is_deep(image: Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def to_8_bit(image: Image.Image, channels: int | None) -> Image.Image:
    """Convert any mode to L or RGB. Deep greys are scaled, not clipped; transparent parts become black."""
    if _is_deep(image):
        image = Image.fromarray((_deep(image).clip(0, 1) * 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        transparent = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", transparent.size, (0, 0, 0, 255)), transparent)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _deep(image: Image.Image) -> Float[np.ndarray, "H W"]:
    """Return the values of a deep grey image, divided by 65,535 if it has 16 bits and by the largest value if more."""
    deep = np.asarray(image, dtype=np.float64)
    if not np.isfinite(deep).all():
        raise ValueError("it holds values that are not numbers (NaN or infinite)")
    most = np.abs(deep).max(initial=0)
    top = 65535.0 if image.mode.startswith("I") and most <= 65535 else max(most, np.finfo(np.float32).tiny)
    return (deep / top).astype(np.float32)
