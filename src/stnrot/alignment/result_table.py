"""The table of results of a manifest: locked while it grows, read to resume it."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stnrot.alignment.motion_kind import MotionKind
from stnrot.errors import InputError
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write

COLUMNS = ("line", "image", "reference", "angle_deg", "confidence", "model", "error")
MATRIX = ("m00", "m01", "m02", "m10", "m11", "m12")  # `Alignment.matrix`, row by row
# Angle, shift and scale give a matrix only to someone who knows the sizes of both images. So the table has it too.
MOVED_COLUMNS = (*COLUMNS[:5], "shift_x", "shift_y", "scale", "overlap", *MATRIX, "motion", *COLUMNS[5:])

Row = dict[str, Any]


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the table. A second process would write the same rows again."""
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"cannot write {out}: expected a file, such as results.csv, in a folder that exists")
    check_regular(out)  # it is read to resume it
    target = out.resolve()  # a table may have several names, by links
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            try:
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise InputError(
            f"{out} is being written by another process: wait until it ends, or choose another --out"
        ) from error


def columns(motion: MotionKind) -> tuple[str, ...]:
    """Return the columns of a table. If only the angle is searched, they are those of the first version."""
    return COLUMNS if motion == "rotation" else MOVED_COLUMNS


def finished_lines(out: Path, rows: list[Row], motion: MotionKind, model: str) -> set[int]:
    """Return the lines that the table has. Remove its rows without an angle, and a last row that is incomplete."""
    try:
        written = out.read_bytes() if out.exists() else b""
        complete = written[: written.rfind(b"\n") + 1].decode()
        reader = csv.DictReader(io.StringIO(complete, newline=""), strict=True)
        found = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {out}: {error}; choose another --out") from error
    names = columns(motion)
    header = csv_line(dict(zip(names, names, strict=True)), motion)
    if tuple(reader.fieldnames or ()) not in (COLUMNS, MOVED_COLUMNS) and not header.encode().startswith(written):
        raise InputError(f"{out} is not a table of this command: choose another --out")
    wanted = {str(row["line"]): row for row in rows}
    finished = {row["line"]: row for row in found if row["angle_deg"] and not row["error"]}
    for row in finished.values():
        pair = wanted.get(row["line"])
        if pair is None or (row["image"], row["reference"]) != (pair["image"], pair["reference"]):
            raise InputError(f"{out} has the results of another manifest (line {row['line']}): choose another --out")
        for name, was, want in (("motion", row.get("motion", "rotation"), motion), ("model", row["model"], model)):
            if was != want:
                raise InputError(
                    f"{out} has results of the {name} {was}, expected those of {want}: choose another --out"
                )
    table = header + "".join(csv_line(row, motion) for row in finished.values())
    if table.encode() != written:
        with atomic_write(out.resolve()) as new:
            new.write_text(table, encoding="utf-8", newline="")
    return set(map(int, finished))


def csv_line(row: Row, motion: MotionKind) -> str:
    """Return a row as a line of the CSV file."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns(motion)).writerow(row)
    return text.getvalue()
