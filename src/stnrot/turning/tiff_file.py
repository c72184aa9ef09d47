"""The tags of a TIFF file: new pixels with the tags of an old file.

Source: Adobe, TIFF Revision 6.0, 1992.
"""

import io
from typing import Any

from PIL import Image, TiffImagePlugin

from stnrot.errors import InputError

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, FURTHER_IMAGES, BITS, XMP = 274, 282, 283, 330, 258, 700
LINKED = (34665, 34853)  # folders of tags: EXIF and GPS
OF_PIXELS = {  # say how the pixels are stored; Pillow writes those of its own
    *(254, 255, 256, 257, BITS, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291),
    *(292, 293, 301, 317, 320, 322, 323, 324, 325, FURTHER_IMAGES, 338, 339, 340, 341, 342, 347, *range(512, 522)),
    *(529, 530, 531, 532, ORIENTATION),
}
WITH_LOSS = ("jpeg", "tiff_jpeg", "webp")  # compressions


def tiff_with_pixels(original: Image.Image, image: Image.Image, swapped: bool) -> bytes:
    """Return a TIFF file with other pixels, which are turned, and the tags of an opened one.

    The compression stays, unless it loses something: then it is Deflate.

    Args:
        original: the opened file.
        image: the pixels.
        swapped: whether width and height are exchanged, and so the resolutions.
    """
    known: Any = original
    if FURTHER_IMAGES in known.tag_v2:
        raise InputError("it holds further images (SubIFDs): expected one image in a TIFF file; save it alone")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in known.tag_v2.items():
        if tag in OF_PIXELS:
            continue
        to = {X_RESOLUTION: Y_RESOLUTION, Y_RESOLUTION: X_RESOLUTION}.get(tag, tag) if swapped else tag
        tags[to] = original.getexif().get_ifd(tag) if tag in LINKED else value
        if tag not in LINKED:
            tags.tagtype[to] = known.tag_v2.tagtype[tag]
    compression = original.info.get("compression")
    written = io.BytesIO()
    image.save(
        written, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate" if compression in WITH_LOSS else compression
    )
    return written.getvalue()


def tiff_bits(image: Image.Image) -> tuple[int, ...]:
    """Return the bits of each value of an opened file."""
    known: Any = image
    return tuple(known.tag_v2.get(BITS, (1,)))
