"""The tags of a TIFF file: new pixels with the tags of an old file.

Source: Adobe, TIFF Revision 6.0, 1992.
"""

import io
from typing import Any

from PIL import Image, TiffImagePlugin

from stnrot.errors import InputError
from stnrot.turning.exif import EXIF_FOLDER, ORIENTATION, with_folder

X_RESOLUTION, Y_RESOLUTION, FURTHER_IMAGES, BITS, FORMAT = 282, 283, 330, 258, 339
UNSIGNED = (1,)
LINKED, INTEROPERABILITY = (EXIF_FOLDER, 34853), 40965  # folders of tags: EXIF, GPS, and one inside EXIF
OF_PIXELS = {  # say how the pixels are stored; Pillow writes those of its own
    *(254, 255, 256, 257, BITS, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291),
    *(292, 293, 301, 317, 320, 322, 323, 324, 325, FURTHER_IMAGES, 338, FORMAT, 340, 341, 342, 347, *range(512, 522)),
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
        if tag in OF_PIXELS or tag in LINKED:
            continue
        to = {X_RESOLUTION: Y_RESOLUTION, Y_RESOLUTION: X_RESOLUTION}.get(tag, tag) if swapped else tag
        tags[to] = value
        tags.tagtype[to] = known.tag_v2.tagtype[tag]
    compression = original.info.get("compression")
    written = io.BytesIO()
    image.save(
        written, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate" if compression in WITH_LOSS else compression
    )
    file = written.getvalue()
    for tag in LINKED:  # Pillow does not write them in a file that is compressed
        if tag in known.tag_v2:
            folder = TiffImagePlugin.ImageFileDirectory_v2(prefix=file[:2])
            for inner, value in original.getexif().get_ifd(tag).items():
                if inner != INTEROPERABILITY:
                    folder[inner] = value
            file = with_folder(file, tag, folder.tobytes)
    return file


def tiff_numbers(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the bits of each value of an opened file, and the format: unsigned, signed or floating."""
    known: Any = image
    return tuple(known.tag_v2.get(BITS, (1,))), tuple(known.tag_v2.get(FORMAT, UNSIGNED))[:1]
