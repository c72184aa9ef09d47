"""Put the tables of several shares together."""

import csv
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

from stnrot.errors import InputError
from stnrot.runs.tables.growing_table import Row, check_finished, check_same, locked, read_rows, replace_rows

Columns = tuple[str, ...]
EXPECTED = "expected a table of stnrot predict --out or stnrot align --manifest"


def merge_tables(tables: Sequence[Path], out: Path, kinds: Sequence[Columns]) -> list[Row]:
    """Write the rows of all tables to `out`, and return them.

    The first column tells what a row is about: an image, or a line of a manifest. If several tables have the same, the
    first row without an error stays. Lines are sorted. Images take turns, one of each table, which is their order if
    the tables are those of all shares, in order.

    Args:
        tables: of one command, with one model.
        out: table to write.
        kinds: the columns that a table may have.

    Raises:
        InputError: if a file is no such table, two tables do not belong together, or another process writes to one.
    """
    for table in tables:
        if not table.is_file():
            raise InputError(f"{table}: {EXPECTED}, got no file")
        check_finished(table)
    columns = _columns(tables[0], kinds)
    key, parts = columns[0], [_rows(table, columns) for table in tables]
    same = [name for name in ("model", "motion") if name in columns]
    first: Row | None = None
    merged: dict[str, Row] = {}
    for table, rows in zip(tables, parts, strict=True):
        for row in rows:
            first = first or row
            check_same(table, row, {name: first[name] for name in same})
            there = merged.setdefault(row[key], row)
            if any(there[name] != row[name] for name in ("image", "reference") if name in columns):
                raise InputError(f"{table} has other images in {key} {row[key]}: expected tables of one manifest")
            if there["error"] and not row["error"]:
                merged[row[key]] = row
    turns = chain.from_iterable(zip_longest(*parts))
    keys = dict.fromkeys(row[key] for row in turns if row is not None)
    order = sorted(keys, key=lambda line: (len(line), line)) if key == "line" else keys
    found = [merged[each] for each in order]
    try:
        with locked(out):  # a process that still adds rows to it would lose them
            replace_rows(out, found, columns)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
    return found


def _columns(table: Path, kinds: Sequence[Columns]) -> Columns:
    """Return the columns of a table, by its first line."""
    try:
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header = tuple(next(csv.reader(file), ()))
    except (OSError, csv.Error) as error:
        raise InputError(f"{table}: {EXPECTED}, got a file that cannot be read: {error}") from error
    return header if header in kinds else kinds[0]  # which refuses it


def _rows(table: Path, columns: Columns) -> list[Row]:
    try:
        rows = read_rows(table, columns)
    except InputError as error:
        raise InputError(f"{table}: {EXPECTED}, of the same kind") from error
    if not table.read_bytes().endswith(b"\n"):  # `read_rows` has left this row out
        raise InputError(
            f"{table} ends within a row, as if its process was killed: expected a whole table; run its command again, "
            "which completes it"
        )
    return rows
