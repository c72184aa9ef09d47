"""Read points from text: rows of coordinates, as spreadsheets, scanners and programs for molecules write them."""

import io
import math
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stnrot.errors import InputError

EXPECTED = (
    "expected rows of x, y and z, separated by commas, semicolons, tabs or spaces; one line before them may name the "
    "columns"
)
COMMENT = re.compile(r"#|//")
UNIT = re.compile(r"\[.*?\]|\(.*?\)")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")

Row = tuple[int, list[str]]  # the number of the line, counted from 1, and its fields


def read_table(path: Path) -> Float[np.ndarray, "N 3"]:
    """Read the coordinates of points from a text file.

    - Commas, semicolons, tabs or spaces separate the columns. Between other separators a comma is a decimal point.
    - `#` and `//` begin a comment. Empty lines are skipped.
    - A line of names may come first, also as a comment. Of named columns x, y and z are read, in any order and place.
    - Without names the first three columns are read, or the next three if the first has words, such as elements.
    - The number of points may come first, as in a .pts file, and a line of comment after it, as in XMOL.

    Raises:
        InputError: names the line that cannot be read.
    """
    rows, names = _rows(_text(path))
    is_xmol = False
    if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal():
        rows, is_xmol = _counted(path, rows)
    if rows and _is_header(rows[0][1]):
        names = rows.pop(0)[1]
    elif rows and len(names) != len(rows[0][1]):
        names = []  # a comment in sentences
    if not rows:
        raise InputError(f"{path} has no points: {EXPECTED}")
    columns = _named(names)
    if columns is None and names and len(names) != 3:
        raise InputError(f"{path} has the columns {', '.join(names)}: expected columns with the names x, y and z")
    if columns is None:
        first = rows[0][1][0]
        has_label = len(rows[0][1]) > 3 and (_number(first) is None or (is_xmol and first.isdecimal()))
        columns = [1, 2, 3] if has_label else [0, 1, 2]
    points = []
    for number, fields in rows:
        point = [_number(fields[k]) for k in columns] if len(fields) > max(columns) else [None]
        if not all(value is not None and math.isfinite(value) for value in point):
            raise InputError(f"{path}, line {number}: {EXPECTED}; got {' '.join(fields)[:80]!r}")
        points.append(point)
    return np.array(points, dtype=np.float64)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error}): {EXPECTED}") from error


def _rows(text: str) -> tuple[list[Row], list[str]]:
    """Return the rows, and the names of the columns if a comment above the first row names x, y and z."""
    rows: list[Row] = []
    names: list[str] = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        content, *comment = COMMENT.split(line, maxsplit=1)
        if fields := _fields(content):
            rows.append((number, fields))
        elif comment and not rows and _named(_fields(comment[0])):
            names = _fields(comment[0])
    return rows, names


def _counted(path: Path, rows: list[Row]) -> tuple[list[Row], bool]:
    """Return the rows below a count, and whether a line between them and the count was a comment, as in XMOL."""
    (start, (count,)), *rest = rows
    commented = not rest or rest[0][0] > start + 1  # an empty line
    if len(rest) == int(count) + 1 and not commented:
        commented, rest = True, rest[1:]
    if len(rest) != int(count):
        raise InputError(f"{path}, line {start}: expected {count} points below this line, found {len(rest)}")
    return rest, commented


def _fields(line: str) -> list[str]:
    words = line.split()
    if ";" in line:
        words = line.split(";")
    elif "," in line and not (len(words) > 1 and any(map(DECIMAL_COMMA.fullmatch, words))):
        words = line.split(",")
    fields = [word.strip().strip("\"'") for word in words]
    while fields and not fields[-1]:  # a separator at the end of the line
        fields.pop()
    return fields


def _number(field: str) -> float | None:
    """Return a number, or None for a word."""
    try:
        return None if "_" in field else float(field.replace(",", "."))
    except ValueError:
        return None


def _is_header(fields: list[str]) -> bool:
    """Return whether the fields are names: some have letters, and none is a number."""
    return any(map(str.isalpha, "".join(fields))) and all(_number(field) is None for field in fields)


def _named(names: list[str]) -> list[int] | None:
    """Return the places of the columns x, y and z, which may have a unit, or None if they are not named."""
    plain = [UNIT.sub("", name).strip().lower() for name in names]
    for known in (plain, [re.split(r"[\W_]", name)[0] for name in plain]):  # first x, then x_mm
        if all(known.count(axis) == 1 for axis in "xyz"):
            return [known.index(axis) for axis in "xyz"]
    return None
