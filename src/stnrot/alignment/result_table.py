"""The table of results of a manifest: locked while it grows, read to resume it."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stnrot.errors import InputError
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write

COLUMNS = ("line", "image", "reference", "angle_deg", "confidence", "model", "error")

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


def finished_lines(out: Path, rows: list[Row], model: str) -> set[int]:
    """Return the lines that the table has. Remove its rows without an angle, and a last row that is incomplete."""
    try:
        written = out.read_bytes() if out.exists() else b""
        complete = written[: written.rfind(b"\n") + 1].decode()
        reader = csv.DictReader(io.StringIO(complete, newline=""), strict=True)
        found = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {out}: {error}; choose another --out") from error
    header = csv_line(dict(zip(COLUMNS, COLUMNS, strict=True)))
    if tuple(reader.fieldnames or ()) != COLUMNS and not header.encode().startswith(written):
        raise InputError(f"{out} is not a table of this command: choose another --out")
    wanted = {str(row["line"]): row for row in rows}
    finished = {row["line"]: row for row in found if row["angle_deg"] and not row["error"]}
    for row in finished.values():
        want = wanted.get(row["line"])
        if want is None or (row["image"], row["reference"]) != (want["image"], want["reference"]):
            raise InputError(f"{out} has the results of another manifest (line {row['line']}): choose another --out")
        if row["model"] != model:
            raise InputError(
                f"{out} has results of the model {row['model']}, expected those of {model}: choose another --out"
            )
    table = header + "".join(map(csv_line, finished.values()))
    if table.encode() != written:
        with atomic_write(out.resolve()) as new:
            new.write_text(table, encoding="utf-8", newline="")
    return set(map(int, finished))


def csv_line(row: Row) -> str:
    """Return a row as a line of the CSV file."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS).writerow(row)
    return text.getvalue()
