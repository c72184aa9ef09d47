"""Write a TIFF file of many equal pages, in any order.

Own code: the time in which Pillow appends a page grows with the number of pages, and it cannot write a page again.
"""

import os
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from stnrot.errors import InputError

CLASSIC = 2**32 - 2**16  # bytes; a larger file has the format BigTIFF
SHORT, LONG, LONG8 = (3, "H"), (4, "I"), (16, "Q")  # types of TIFF: their number, and their letter in `struct`
SAMPLE_FORMAT = {"b": 1, "u": 1, "i": 2, "f": 3}
BLACK_IS_ZERO, RGB = 1, 2
ALPHA = 2  # the colours are not multiplied by it
ALIGN = 16  # bytes


class TiffStack:
    """A TIFF file whose pages have one size and one dtype. They are not compressed, and lie at fixed places.

    A page that is not written yet is black. The file is whole after each page, so a killed process can be resumed.

    Args:
        path: of the file. If it exists, its pages are kept.
        like: a page [H, W] or [H, W, C] with C = 2 (grey and alpha), 3 (colour) or 4 (colour and alpha).
        count: number of pages.

    Raises:
        InputError: if the file that exists has other pages.
    """

    def __init__(self, path: Path, like: Shaped[np.ndarray, "H W *C"], count: int) -> None:
        self._shape, self._dtype = like.shape, like.dtype
        self._size = len(_to_bytes(like))
        self._big = count * (self._size + 512) > CLASSIC
        self._header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if self._big else struct.pack("<2sHI", b"II", 42, 8)
        self._before = self._stride = 0  # the places depend on the lengths, which do not depend on the places
        self._before = len(self._directory(0, last=True))
        self._stride = self._before + self._size + -(self._before + self._size) % ALIGN
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._link(path, count)
        except BaseException:
            self._file.close()
            raise

    def write(self, page: int, pixels: Shaped[np.ndarray, "H W *C"]) -> None:
        """Write a page.

        Raises:
            InputError: if its size or dtype is another one.
        """
        if (pixels.shape, pixels.dtype) != (self._shape, self._dtype):
            raise InputError(
                f"its pixels are {_kind(pixels.shape, pixels.dtype)}, those of the first frame "
                f"{_kind(self._shape, self._dtype)}: expected the same in one TIFF file; write to a folder"
            )
        self._file.seek(len(self._header) + page * self._stride + self._before)
        self._file.write(_to_bytes(pixels))
        self._file.flush()

    def flush(self) -> None:
        """Write all pages to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _link(self, path: Path, count: int) -> None:
        """Write the directories of all pages, the first one last: until then, the file has as many pages as before."""
        known = self._file.read(len(self._header) + self._before)
        ours = [self._header + self._directory(0, last) for last in (True, False)]
        if known.strip(b"\0") and known not in ours:
            raise InputError(f"{path} has pages of another size or kind: choose another --out")
        length = len(self._header) + count * self._stride
        if os.path.getsize(path) < length:
            self._file.truncate(length)
        for page in reversed(range(count)):
            self._file.seek(len(self._header) + page * self._stride)
            self._file.write(self._directory(page, page == count - 1))
        self._file.seek(0)
        self._file.write(self._header)
        self.flush()

    def _directory(self, page: int, last: bool) -> bytes:
        """Return the directory of a page, padded, which ends where the pixels begin."""
        at = len(self._header) + page * self._stride
        height, width, *channels = self._shape
        samples = channels[0] if channels else 1
        bits = 1 if self._dtype.kind == "b" else 8 * self._dtype.itemsize
        offset = LONG8 if self._big else LONG
        tags = {
            256: (LONG, [width]),
            257: (LONG, [height]),
            258: (SHORT, [bits] * samples),
            259: (SHORT, [1]),  # not compressed
            262: (SHORT, [RGB if samples > 2 else BLACK_IS_ZERO]),
            273: (offset, [at + self._before]),
            277: (SHORT, [samples]),
            278: (LONG, [height]),  # one strip
            279: (offset, [self._size]),
            338: (SHORT, [ALPHA] if samples in (2, 4) else []),
            339: (SHORT, [SAMPLE_FORMAT[self._dtype.kind]] * samples),
        }
        tags = {tag: entry for tag, entry in tags.items() if entry[1]}
        count, number, field = ("Q", "Q", 8) if self._big else ("H", "I", 4)
        entries, beyond = b"", b""  # values that do not fit into an entry lie beyond the entries
        end = at + struct.calcsize(f"<{count}{number}") + len(tags) * struct.calcsize(f"<HH{number}{number}")
        for tag, ((kind, letter), values) in tags.items():
            value = struct.pack(f"<{len(values)}{letter}", *values)
            if len(value) > field:
                beyond, value = beyond + value, struct.pack(f"<{number}", end + len(beyond))
            entries += struct.pack(f"<HH{number}", tag, kind, len(values)) + value.ljust(field, b"\0")
        link = 0 if last else at + self._stride
        whole = struct.pack(f"<{count}", len(tags)) + entries + struct.pack(f"<{number}", link) + beyond
        return whole.ljust(len(whole) + -len(whole) % ALIGN, b"\0")


def _to_bytes(pixels: Shaped[np.ndarray, "H W *C"]) -> bytes:
    if pixels.dtype.kind == "b":
        return np.packbits(pixels, 1).tobytes()
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()


def _kind(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{shape[1]} x {shape[0]}{''.join(f' x {each}' for each in shape[2:])} {dtype}"
