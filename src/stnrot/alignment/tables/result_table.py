"""The table of results of a manifest."""

from pathlib import Path

from stnrot.alignment.motion_kind import MotionKind
from stnrot.errors import InputError
from stnrot.runs.tables.growing_table import Row, check_same, read_rows, replace_rows

COLUMNS = ("line", "image", "reference", "angle_deg", "confidence", "model", "error")
MATRIX = ("m00", "m01", "m02", "m10", "m11", "m12")  # `Alignment.matrix`, row by row
# Angle, shift and scale give a matrix only to someone who knows the sizes of both images. So the table has it too.
MOVED_COLUMNS = (*COLUMNS[:5], "shift_x", "shift_y", "scale", "overlap", *MATRIX, "motion", *COLUMNS[5:])


def columns(motion: MotionKind) -> tuple[str, ...]:
    """Return the columns of a table. If only the angle is searched, they are those of the first version."""
    return COLUMNS if motion == "rotation" else MOVED_COLUMNS


def finished_lines(out: Path, rows: list[Row], motion: MotionKind, model: str) -> set[int]:
    """Return the lines that the table has. Remove its rows without an angle, and a last row that is incomplete."""
    found = read_rows(out, columns(motion), (COLUMNS, MOVED_COLUMNS))
    wanted = {str(row["line"]): row for row in rows}
    finished = {row["line"]: row for row in found if row["angle_deg"] and not row["error"]}
    for row in finished.values():
        pair = wanted.get(row["line"])
        if pair is None or (row["image"], row["reference"]) != (pair["image"], pair["reference"]):
            raise InputError(f"{out} has the results of another manifest (line {row['line']}): choose another --out")
        check_same(out, {"motion": "rotation"} | row, {"motion": motion, "model": model})
    replace_rows(out, finished.values(), columns(motion))
    return set(map(int, finished))
