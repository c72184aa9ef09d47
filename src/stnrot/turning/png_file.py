"""The chunks of a PNG file: new pixels in an old file.

Source: W3C, Portable Network Graphics (PNG) Specification (Third Edition), 2025.
"""

import io
import struct
from collections.abc import Iterator
from zlib import crc32, decompress

import numpy as np
from PIL import Image

from stnrot.errors import InputError
from stnrot.turning.exif import PREFIX, of_turned_pixels, xmp_with_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = 0  # type of colour
OF_COLOURS = (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT", b"sPLT")  # hold values of the pixels
OF_IMAGE = (b"cHRM", b"cICP", b"gAMA", b"iCCP", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"eXIf", b"tIME")
RAW_EXIF = b"Raw profile type exif\0"  # how ImageMagick wrote EXIF data before PNG had a chunk for it


def png_with_pixels(file: bytes, image: Image.Image, same_values: bool, swapped: bool) -> bytes:
    """Return a PNG file with other pixels, which are turned. Its metadata stays, with orientation 1.

    If the pixels are of another kind than those of the file, its palette and its other values of pixels are left out.

    Args:
        file: the PNG file.
        image: the pixels.
        same_values: whether all values are those of the file. They are then written with as many bits. Pillow reads
            grey values of 2 and 4 bits as 8 bits.
        swapped: whether width and height are exchanged, and so the resolutions.
    """
    chunks = list(_chunks(file))
    header = chunks[0][1]
    encoded = _encoded(image, header if same_values else None)
    same_kind = encoded[b"IHDR"][8:10] == header[8:10]
    if same_values and not same_kind:
        raise InputError(f"Pillow does not write its mode {image.mode} with its bits: expected others; convert it")
    size = (image.height, image.width)
    parts = [SIGNATURE, _chunk(b"IHDR", encoded[b"IHDR"])]
    for name, content in chunks[1:]:
        if name == b"IDAT":
            parts += [_chunk(name, encoded.pop(name))] if name in encoded else []
        elif name == b"pHYs" and swapped:
            parts.append(_chunk(name, content[4:8] + content[:4] + content[8:]))
        elif name == b"eXIf":
            parts.append(_chunk(name, of_turned_pixels(content, *size)))
        elif name in (b"tEXt", b"zTXt") and content.startswith(RAW_EXIF):
            parts.append(_chunk(b"eXIf", of_turned_pixels(_raw_exif(name, content), *size)))
        elif name == b"iTXt":
            parts.append(_chunk(name, xmp_with_orientation(content, 1)))
        elif name in OF_COLOURS:
            parts += [_chunk(name, content)] if same_kind else []
        elif name in OF_IMAGE or name[3:].islower():  # a capital: it would not be right with other pixels
            parts.append(_chunk(name, content))
    return b"".join(parts)


def _encoded(image: Image.Image, header: bytes | None) -> dict[bytes, bytes]:
    """Return the chunks of an image, with as many bits as in the header of a file."""
    bits, kind = (8, None) if header is None else header[8:10]
    packs_grey = kind == GREY and image.mode == "L" and bits < 8  # Pillow writes so few bits with a palette alone
    if packs_grey:
        image = Image.fromarray(np.asarray(image) // (255 // (2**bits - 1)))
        image.putpalette(bytes(768))
    written = io.BytesIO()
    image.save(written, "PNG", **({"bits": bits} if image.mode == "P" else {}))
    found: dict[bytes, bytes] = {}
    for name, content in _chunks(written.getvalue()):
        found[name] = found.get(name, b"") + content
    if packs_grey:
        found[b"IHDR"] = found[b"IHDR"][:9] + bytes([GREY]) + found[b"IHDR"][10:]
    return found


def _raw_exif(name: bytes, content: bytes) -> bytes:
    text = content[len(RAW_EXIF) :] if name == b"tEXt" else decompress(content[len(RAW_EXIF) + 1 :])
    return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode()).removeprefix(PREFIX)


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the content of each chunk."""
    place, name = len(SIGNATURE), b""
    while name != b"IEND":
        if place + 12 > len(file):
            raise InputError("its PNG data is broken: expected a chunk IEND; open it and save it again")
        length, name = struct.unpack_from(">I4s", file, place)
        yield name, file[place + 8 : place + 8 + length]
        place += length + 12


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc32(name + content))
