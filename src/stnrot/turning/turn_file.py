"""Turn one image file: by quarter turns without loss, by other angles with one resampling."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from stnrot.data.image_file import MAX_PIXELS, opened
from stnrot.errors import InputError
from stnrot.turning.exif import ORIENTATION, PREFIX, of_turned_pixels, turned_orientation, xmp_with_orientation
from stnrot.turning.frame import Frame
from stnrot.turning.jpeg_file import jpeg_with_orientation, jpeg_with_pixels
from stnrot.turning.png_file import png_with_pixels
from stnrot.turning.quarter_turns import quarter_turned
from stnrot.turning.tiff_file import tiff_numbers, tiff_with_pixels

QUARTER = 90.0  # degrees
JPEG = ("JPEG", "MPO")  # MPO: several images in a JPEG file, as phones write it
WITHOUT_LOSS = ("PNG", "TIFF", "WEBP", "BMP", "PPM")


def turned_file(path: Path, angle_deg: float, frame: Frame) -> bytes:
    """Return the file of an image that is turned, as it is shown, by an angle counter-clockwise.

    - A multiple of 90 degrees loses nothing, unless the frame is `same`. A JPEG file gets another EXIF orientation, and
      its compressed data stays. The pixels of PNG, TIFF, WebP, BMP and PPM files are transposed, with their mode and
      their bits.
    - By another angle the pixels are sampled once, bicubically. JPEG is compressed with the tables of the file.

    EXIF and XMP data, ICC profile, resolution, comments and texts stay. Where the pixels are turned, the orientation is
    1, and the thumbnail in the EXIF data is taken out. WebP is written without loss.

    Args:
        path: of the file.
        angle_deg: degrees.
        frame: of the result of another angle.

    Raises:
        InputError: if the file cannot be read, holds several images, is of another format, or has more bits than Pillow
            keeps.
    """
    try:
        with opened(path, MAX_PIXELS) as image:
            file = path.read_bytes()
            quarters = round(angle_deg / QUARTER) % 4 if angle_deg % QUARTER == 0 and frame != "same" else None
            if image.format in JPEG and quarters is not None:
                orientation = turned_orientation(_orientation(image), quarters)
                new = jpeg_with_orientation(file, orientation)
                with opened(path, MAX_PIXELS, new) as again:
                    if _orientation(again) != orientation:
                        raise InputError("its EXIF data is broken: expected one orientation; remove it with exiftool")
                return new
            _check(image)
            if image.format == "JPEG":
                upright = ImageOps.exif_transpose(image)
                pixels = _turned(upright, angle_deg, frame)
                return jpeg_with_pixels(file, _encoded_jpeg(image, pixels), pixels.height, pixels.width)
            pixels, new = _with_pixels(file, image, angle_deg, quarters, frame)
            kept = not (image.format == "TIFF" and image.mode == pixels.mode) or _same_numbers(path, image, new)
        if quarters is not None:
            with opened(path, MAX_PIXELS, new) as again:
                kept = kept and again.mode == pixels.mode and np.array_equal(np.asarray(again), np.asarray(pixels))
        if not kept:
            raise InputError(f"Pillow does not write its mode {pixels.mode} with its bits: expected others; convert it")
        return new
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ORIENTATION, 1)


def _check(image: Image.Image) -> None:
    """Raise InputError if something of the file would be lost."""
    if image.format not in (*JPEG, *WITHOUT_LOSS):
        raise InputError(f"its format is {image.format}: expected JPEG, PNG, TIFF, WebP, BMP or PPM; convert it")
    if getattr(image, "n_frames", 1) > 1 or image.info.get("default_image"):
        raise InputError("it holds several images: expected one; save each as a file of its own")
    if (";16" in str(_tile(image)) and not image.mode.startswith(("I", "F"))) or _is_scaled(image):
        raise InputError("Pillow would read 8 of its bits alone: expected at most 8, or 16 in grey; convert it")


def _is_scaled(image: Image.Image) -> bool:
    """Return whether Pillow scales the values of a PPM file, because their largest is not 255 or 65,535."""
    decoder = next(iter(_tile(image)), ("raw",))[0]
    return image.format == "PPM" and decoder != "raw"


def _same_numbers(path: Path, image: Image.Image, new: bytes) -> bool:
    """Return whether a new TIFF file has numbers of the kind that an opened one has."""
    with opened(path, MAX_PIXELS, new) as again:
        return tiff_numbers(again) == tiff_numbers(image)


def _tile(image: Image.Image) -> Any:
    """Return how Pillow decodes an opened file."""
    return getattr(image, "tile", ())


def _encoded_jpeg(original: Image.Image, pixels: Image.Image) -> bytes:
    """Return turned pixels as JPEG, with the quantisation and the subsampling of the original."""
    known: Any = original
    options: dict[str, Any] = {"qtables": known.quantization, "progressive": bool(original.info.get("progressive"))}
    if (sampling := JpegImagePlugin.get_sampling(original)) != -1:
        options["subsampling"] = sampling
    written = io.BytesIO()
    pixels.save(written, "JPEG", **options)
    return written.getvalue()


def _with_pixels(
    file: bytes, image: Image.Image, angle_deg: float, quarters: int | None, frame: Frame
) -> tuple[Image.Image, bytes]:
    """Return the turned pixels, and a file of another format than JPEG with them."""
    orientation = _orientation(image)  # Pillow applies that of TIFF, and forgets it, while it decodes
    upright = ImageOps.exif_transpose(image)
    same_values = quarters is not None
    pixels = _turned(upright, angle_deg, frame) if quarters is None else quarter_turned(upright, quarters)
    swapped = (orientation in range(5, 9)) != (quarters in (1, 3))
    if image.format == "PNG":
        return pixels, png_with_pixels(file, pixels, same_values, swapped)
    if image.format == "TIFF":
        return pixels, tiff_with_pixels(image, pixels, swapped)
    return pixels, _saved(image, pixels)


def _saved(image: Image.Image, pixels: Image.Image) -> bytes:
    """Return a WebP, BMP or PPM file."""
    options: dict[str, Any] = {}
    if image.format == "WEBP":
        options = {"lossless": True, "exact": True}
        if exif := image.info.get("exif"):
            options["exif"] = PREFIX + of_turned_pixels(exif.removeprefix(PREFIX), pixels.height, pixels.width)
        if xmp := image.info.get("xmp"):
            options["xmp"] = xmp_with_orientation(xmp, 1)
    for name in ("icc_profile", "dpi"):
        if name in image.info:
            options[name] = image.info[name]
    written = io.BytesIO()
    pixels.save(written, image.format, **options)
    return written.getvalue()


def _turned(image: Image.Image, angle_deg: float, frame: Frame) -> Image.Image:
    from stnrot.turning.pixels import turned  # here, because it imports torch

    return turned(image, math.radians(angle_deg), frame)
