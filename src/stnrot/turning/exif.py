"""The orientation and the sizes in EXIF and XMP data, changed in their bytes; all others stay.

Source: CIPA DC-008, Exchangeable image file format for digital still cameras (Exif 2.32), 2019.
"""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stnrot.errors import InputError

ORIENTATION, EXIF_FOLDER = 0x0112, 0x8769
WIDTHS, HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
SHORT, LONG = 3, 4  # types of values
PREFIX = b"Exif\0\0"
IN_XMP = re.compile(rb'(tiff:Orientation(?:=["\']|>))[0-9]')
# Orientations in an order in which each is the one before it, turned by 90 degrees counter-clockwise when it is shown
PLAIN, MIRRORED = (1, 8, 3, 6), (2, 5, 4, 7)


def turned_orientation(orientation: int, turns: int) -> int:
    """Return the orientation of an image that is shown with another one, and then turned by quarter turns.

    >>> turned_orientation(1, 1), turned_orientation(6, 1)
    (8, 1)
    """
    cycle = MIRRORED if orientation in MIRRORED else PLAIN
    place = cycle.index(orientation) if orientation in cycle else 0  # an unknown orientation shows nothing turned
    return cycle[(place + turns) % 4]


def with_orientation(exif: bytes, orientation: int) -> bytes:
    """Return EXIF data with another orientation. Where it has none, a longer first folder is appended to it.

    Args:
        exif: it begins with the order of its bytes, `II` or `MM`.
        orientation: from 1 to 8.

    Raises:
        InputError: if the data is broken.
    """
    with _whole_data():
        new, order, first = _opened(exif)
        places = [place for place, tag in _entries(new, order, first) if tag == ORIENTATION]
        entry = struct.pack(f"{order}HHIHH", ORIENTATION, SHORT, 1, orientation, 0)
        for place in places:
            new[place : place + 12] = entry
        if not places and orientation != 1:
            _append_folder(new, order, first, ORIENTATION, entry)
    return bytes(new)


def new_exif(orientation: int) -> bytes:
    """Return EXIF data with an orientation alone."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, ORIENTATION, SHORT, 1, orientation, 0, 0)


def of_turned_pixels(exif: bytes, height: int, width: int) -> bytes:
    """Return EXIF data for turned pixels: orientation 1, their size, no link to a thumbnail."""
    exif = with_orientation(exif, 1)
    with _whole_data():
        new, order, first = _opened(exif)
        folders = [first]
        for place, tag in _entries(new, order, first):
            if tag == EXIF_FOLDER:
                folders += struct.unpack_from(f"{order}I", new, place + 8)
        for folder in folders:
            for place, tag in _entries(new, order, folder):
                if tag in WIDTHS + HEIGHTS:
                    size = width if tag in WIDTHS else height
                    struct.pack_into(f"{order}HHII", new, place, tag, LONG, 1, size)
        struct.pack_into(f"{order}I", new, _end(new, order, first), 0)
    return bytes(new)


def with_folder(tiff: bytes, tag: int, folder: Callable[[int], bytes]) -> bytes:
    """Return a TIFF file, or EXIF data, with a further folder of tags that its first folder links to.

    Args:
        tiff: the file.
        tag: of the link.
        folder: the folder, if it begins at a place in the file.
    """
    new, order, first = _opened(tiff)
    new += b"\0" * (len(new) % 2)
    place = len(new)
    new += folder(place)
    _append_folder(new, order, first, tag, struct.pack(f"{order}HHII", tag, LONG, 1, place))
    return bytes(new)


def xmp_with_orientation(xmp: bytes, orientation: int) -> bytes:
    """Return XMP data with another orientation, if it has one."""
    return IN_XMP.sub(rb"\g<1>%d" % orientation, xmp)


@contextmanager
def _whole_data() -> Iterator[None]:
    """Read or change EXIF data inside. If it ends too early, or begins with no order of bytes, raise InputError."""
    try:
        yield
    except (struct.error, KeyError) as error:
        raise InputError("its EXIF data is broken: expected whole data; remove it, such as with exiftool") from error


def _opened(exif: bytes) -> tuple[bytearray, str, int]:
    """Return the data, the order of its bytes as in `struct`, and the place of its first folder."""
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    return bytearray(exif), order, *struct.unpack_from(f"{order}I", exif, 4)


def _entries(exif: bytearray, order: str, folder: int) -> Iterator[tuple[int, int]]:
    """Yield the place and the tag of each entry of a folder."""
    for place in range(folder + 2, _end(exif, order, folder), 12):
        yield place, struct.unpack_from(f"{order}H", exif, place)[0]


def _end(exif: bytearray, order: str, folder: int) -> int:
    """Return the place behind the entries of a folder, where the link to the next one lies."""
    return folder + 2 + 12 * struct.unpack_from(f"{order}H", exif, folder)[0]


def _append_folder(exif: bytearray, order: str, first: int, tag: int, entry: bytes) -> None:
    """Append a copy of the first folder with another entry, and let the header point to it."""
    entries = {known: exif[place : place + 12] for place, known in _entries(exif, order, first)}
    entries[tag] = bytearray(entry)
    end = _end(exif, order, first)
    following = exif[end : end + 4].ljust(4, b"\0")
    exif += b"\0" * (len(exif) % 2)
    struct.pack_into(f"{order}I", exif, 4, len(exif))
    exif += struct.pack(f"{order}H", len(entries)) + b"".join(entries[each] for each in sorted(entries)) + following
