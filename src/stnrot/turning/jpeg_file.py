"""The segments of a JPEG file: another orientation without new compressed data, or new compressed data in an old file.

Source: ITU-T T.81, Information technology: digital compression and coding of continuous-tone still images, 1992.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from stnrot.errors import InputError
from stnrot.turning.exif import PREFIX, new_exif, of_turned_pixels, with_orientation, xmp_with_orientation

XMP = b"http://ns.adobe.com/xap/1.0/\0"
EOI, SOS, COMMENT = 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, ADOBE, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
LONGEST = 65533  # bytes of a segment
MARKER = re.compile(rb"\xff[^\0\x01\xd0-\xd7\xff]", re.DOTALL)  # that ends compressed data


class Segment(NamedTuple):
    """A segment: its marker, and where its content begins and ends in the file."""

    marker: int
    start: int
    end: int


def jpeg_with_orientation(file: bytes, orientation: int) -> bytes:
    """Return a JPEG file with another EXIF orientation; its other bytes stay.

    Where it has no EXIF data, a segment with the orientation is inserted. XMP data gets it too, if it has one.

    Raises:
        InputError: if the file or its EXIF data is broken.
    """
    segments = list(_segments(file))
    changes: dict[Segment, bytes] = {}
    exif = [each for each in segments if each.marker == APP1 and _content(file, each).startswith(PREFIX)]
    for segment in segments:
        content = _content(file, segment)
        if segment in exif[:1]:
            changes[segment] = PREFIX + with_orientation(content[len(PREFIX) :], orientation)
        elif segment.marker == APP1 and content.startswith(XMP):
            changes[segment] = xmp_with_orientation(content, orientation)
    parts, place = [], 0
    for segment, content in changes.items():
        parts += [file[place : segment.start - 2], _length(content), content]
        place = segment.end
    changed = b"".join([*parts, file[place:]])
    if exif or orientation == 1:
        return changed
    first = [each.end for each in segments[:1] if each.marker == APP0]  # JFIF wants to be the first
    place = first[0] if first else 2
    return changed[:place] + _segment(APP1, PREFIX + new_exif(orientation)) + changed[place:]


def jpeg_with_pixels(file: bytes, encoded: bytes, height: int, width: int) -> bytes:
    """Return a JPEG file with the image of another one, `encoded`, whose pixels are turned.

    Its metadata stays, and what follows the image, such as the video of a moving photograph of a phone.
    """
    jfif, metadata = [], []
    for segment in _segments(file):
        content = _content(file, segment)
        if segment.marker == APP1 and content.startswith(PREFIX):
            content = PREFIX + of_turned_pixels(content[len(PREFIX) :], height, width)
        elif segment.marker == APP1 and content.startswith(XMP):
            content = xmp_with_orientation(content, 1)
        if segment.marker == APP0:
            jfif += [_segment(APP0, content)] if content.startswith(b"JFIF\0") else []  # else it is a thumbnail
        elif segment.marker == COMMENT or (APP0 < segment.marker <= APP15 and segment.marker != ADOBE):
            is_index = segment.marker == APP2 and content.startswith(b"MPF\0")  # of further images in the file
            metadata += [] if is_index else [_segment(segment.marker, content)]
    own, image = [], []
    for segment in _segments(encoded):
        part = _segment(segment.marker, _content(encoded, segment))
        if segment.marker == APP0:
            own.append(part)
        elif segment.marker == ADOBE or not APP0 <= segment.marker <= APP15:
            image.append(part)
    scan = max(segment.end for segment in _segments(encoded))
    return b"".join([encoded[:2], *(jfif or own), *metadata, *image, encoded[scan:], file[_end(file) :]])


def _segments(file: bytes) -> Iterator[Segment]:
    """Yield the segments before the compressed data."""
    place = 2
    try:
        while True:
            if file[place] != 0xFF:
                raise InputError("its JPEG data is broken: expected a marker; open it and save it again")
            marker = file[place + 1]
            if marker == SOS:
                return
            if marker == 0xFF:  # a byte that fills
                place += 1
            elif marker in ALONE:
                place += 2
            else:
                (length,) = struct.unpack_from(">H", file, place + 2)
                yield Segment(marker, place + 4, place + 2 + length)
                place += 2 + length
    except (IndexError, struct.error) as error:
        raise InputError("its JPEG data is broken: it ends too early; open it and save it again") from error


def _end(file: bytes) -> int:
    """Return the place behind the image: its marker EOI, or the end of a file that has none."""
    place = max((segment.end for segment in _segments(file)), default=2)
    while marker := MARKER.search(file, place):
        if file[marker.start() + 1] == EOI:
            return marker.end()
        (length,) = struct.unpack_from(">H", file, marker.end())
        place = marker.end() + length
    return len(file)


def _content(file: bytes, segment: Segment) -> bytes:
    return file[segment.start : segment.end]


def _length(content: bytes) -> bytes:
    if len(content) > LONGEST:
        raise InputError("its EXIF data is full: there is no room for an orientation; remove its thumbnail")
    return struct.pack(">H", len(content) + 2)


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + _length(content) + content
