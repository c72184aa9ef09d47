"""The drift table: how each frame of a stack lies to the first one."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from stnrot.alignment.alignment import Alignment
from stnrot.alignment.motion import Motion
from stnrot.errors import InputError
from stnrot.runs.tables.growing_table import Row, check_same, number_texts, read_rows, replace_rows

NUMBERS = ("angle_deg", "shift_x", "shift_y", "scale", "overlap", "confidence")
COLUMNS = ("frame", *NUMBERS, "to", "motion", "model", "error")
NOT_MOVED = ("0.0000", "0.0000", "0.0000", "1.000000", "1.0000", "1.0000")  # numbers of the first frame


def finished_frames(table: Path, names: Sequence[str], options: Row) -> dict[str, Row]:
    """Return the rows that have no error, by the frame.

    Args:
        table: path of the table.
        names: of the frames, in order.
        options: columns that all rows must share.

    Raises:
        InputError: if the table has other frames, or was made with other options.
    """
    found = {row["frame"]: row for row in read_rows(table, COLUMNS) if row["confidence"] and not row["error"]}
    for row in found.values():
        if row["frame"] not in names or names[0] not in found:
            raise InputError(f"{table} has the frames of another stack, such as {row['frame']}: choose another --out")
        check_same(table, row, options)
    return found


def write_table(table: Path, names: Sequence[str], rows: dict[str, Row]) -> None:
    """Write the rows in the order of the frames."""
    replace_rows(table, [rows[name] for name in names if name in rows], COLUMNS)


def number_cells(alignment: Alignment, place: int) -> Row:
    """Return the numbers of a frame.

    Args:
        alignment: of several frames.
        place: of the frame in it.
    """
    one = slice(place, place + 1)
    x, y = alignment.shift[one].unbind(1)
    angle, scale = number_texts(alignment.angle[one].double().rad2deg()), number_texts(alignment.scale[one], 6)
    shares = [number_texts(each[one]) for each in (alignment.overlap, alignment.confidence)]
    cells = (angle, number_texts(x), number_texts(y), scale, *shares)
    return {name: text for name, (text,) in zip(NUMBERS, cells, strict=True)}


def first_cells() -> Row:
    """Return the numbers of the first frame."""
    return dict(zip(NUMBERS, NOT_MOVED, strict=True))


def motion_of(row: Row) -> Motion:
    """Return the motion of a frame onto the first, from its row."""
    angle, x, y, scale = (float(row[name]) for name in ("angle_deg", "shift_x", "shift_y", "scale"))
    turned = Motion.about_middle(torch.tensor([[math.radians(angle)]]), scale)
    return Motion(turned.linear, -turned.linear * complex(x, y))
