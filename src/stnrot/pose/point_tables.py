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
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
PROPERTIES = re.compile(r"Properties=(\S+)")  # extended XYZ: species:S:1:pos:R:3

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
    comment: list[str] | None = None
    if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal():
        rows, comment = _counted(path, rows)
        names = _properties(comment) or comment or names
    if rows and _is_header(rows[0][1]):
        names = _trimmed(rows.pop(0)[1])
    elif rows and (len(names) != len(_trimmed(rows[0][1])) or not _named(names)):
        names = []  # a comment in sentences
    if not rows:
        raise InputError(f"{path} has no points: {EXPECTED}")
    columns = _named(names)
    if columns is None and names and len(names) != 3:
        raise InputError(f"{path} has the columns {', '.join(names)}: expected columns with the names x, y and z")
    if columns is None:
        first, *others = _trimmed(rows[0][1])
        is_element = comment is not None and first.isdecimal()  # an atomic number
        has_label = len(others) > 2 and (_number(first) is None or is_element)
        columns = [1, 2, 3] if has_label else [0, 1, 2]
    points = []
    for number, fields in rows:
        if names and (len(fields) < len(names) or any(fields[len(names) :])):
            raise InputError(
                f"{path}, line {number}: expected {len(names)} columns, with the names {', '.join(names)}; "
                f"got {' '.join(fields)[:80]!r}"
            )
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
        fields = _fields(content)
        if any(fields):
            rows.append((number, fields))
        elif comment and not rows and _named(_fields(comment[0])):
            names = _fields(comment[0])
    return rows, names


def _counted(path: Path, rows: list[Row]) -> tuple[list[Row], list[str] | None]:
    """Return the rows below a count, and the fields of the comment line between, as in XMOL; None without that line."""
    (start, (count,)), *rest = rows
    comment: list[str] | None = [] if rest and rest[0][0] > start + 1 else None  # an empty line
    if len(rest) == int(count) + 1 and comment is None:
        comment, rest = rest[0][1], rest[1:]
    if len(rest) != int(count):
        raise InputError(f"{path}, line {start}: expected {count} points below this line, found {len(rest)}")
    return rest, comment


def _properties(comment: list[str] | None) -> list[str]:
    """Return the names of the columns that the comment line of an extended XYZ file gives."""
    found = PROPERTIES.search(" ".join(comment or ()))
    words = found[1].split(":") if found else []
    names = [name for name, count in zip(words[::3], words[2::3], strict=False) for _ in range(int(count))]
    first = names.index("pos") if names.count("pos") == 3 else len(names)
    return [*names[:first], *"xyz", *names[first + 3 :]] if first < len(names) else []


def _fields(line: str) -> list[str]:
    words = line.split()
    if ";" in line:
        words = line.split(";")
    elif "," in line:
        at_edge = any(word.strip(",") != word for word in words)
        decimal = len(words) > 1 and not at_edge and any(map(DECIMAL_COMMA.fullmatch, words))
        words = words if decimal else line.split(",")
    return [word.strip().strip("\"'") for word in words]


def _trimmed(fields: list[str]) -> list[str]:
    """Return the fields without the empty ones at the end, which separators at the end of a line make."""
    used = [k for k, field in enumerate(fields, start=1) if field]
    return fields[: used[-1]]


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
