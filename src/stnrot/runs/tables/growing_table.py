"""A table of results in a CSV file: locked while it grows, read to resume it."""

import csv
import io
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stnrot.errors import InputError
from stnrot.regular_file import check_regular, real
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.file_lock import held
from stnrot.runs.published import CONFIG, WEIGHTS

Row = dict[str, Any]


@runtime_checkable
class SupportsList(Protocol):
    """A vector of numbers: a tensor or an array."""

    def tolist(self) -> list[float]: ...


@contextmanager
def locked(out: Path, otherwise: str = "or choose another --out") -> Iterator[None]:
    """Lock the table. A second process would write the same rows again.

    Args:
        out: path of the table.
        otherwise: what one can do beside waiting, or after it, while another process has it locked.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"cannot write {out}: expected a file, such as results.csv, in a folder that exists")
    check_regular(out)  # it is read to resume it
    refusal = f"{out} is being written by another process: wait until it ends, {otherwise}"
    with held(_lock_of(out), refusal):
        yield


def check_finished(table: Path) -> None:
    """Raise InputError if a process writes to the table. Nothing is written to a folder without such a process."""
    if _lock_of(table).exists():
        with locked(table, "then start again"):
            pass


def read_rows(out: Path, columns: Sequence[str], others: Collection[tuple[str, ...]] = ()) -> list[Row]:
    """Return the rows of a table, without a last row that is incomplete. A table that does not exist has none.

    A line that ends inside quotes, in a name of a file with a line break, ends no row.

    Args:
        out: path of the table.
        columns: that it has.
        others: columns that it may have instead.

    Raises:
        InputError: if the file is not such a table.
    """
    try:
        written = out.read_bytes() if out.exists() else b""
        end = written.rfind(b"\n") + 1
        while written.count(b'"', 0, end) % 2:
            end = written.rfind(b"\n", 0, end - 1) + 1
        complete = written[:end].decode(errors="surrogateescape")  # names of files
        reader = csv.DictReader(io.StringIO(complete, newline=""), strict=True)
        found = list(reader)
    except (OSError, csv.Error) as error:
        raise InputError(f"cannot read {out}: {error}; choose another --out") from error
    is_known = tuple(reader.fieldnames or ()) in {tuple(columns), *others}
    is_whole = all(None not in row and None not in row.values() for row in found)  # else cells are missing or too many
    if not (is_known and is_whole) and not _header(columns).encode().startswith(written):
        raise InputError(f"{out} is not a table of this command: choose another --out")
    return found


def check_same(out: Path, row: Row, options: Row) -> None:
    """Raise InputError if a row of the table `out` was made with other options."""
    for name, wanted in options.items():
        if row[name] != wanted:
            raise InputError(
                f"{out} has results of the {name} {row[name]}, expected those of {wanted}: choose another --out"
            )


def replace_rows(out: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write a table that has these rows, unless it has them."""
    table = _header(columns) + "".join(csv_line(row, columns) for row in rows)
    content = table.encode(errors="surrogateescape")
    if not out.exists() or out.read_bytes() != content:
        with atomic_write(real(out)) as new:
            new.write_bytes(content)


def csv_line(row: Row, columns: Sequence[str]) -> str:
    """Return a row as a line of the CSV file."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerow(row)
    return text.getvalue()


def number_texts(values: SupportsList, digits: int = 4) -> list[str]:
    """Return numbers as cells of a table."""
    return [f"{round(value, digits) + 0.0:.{digits}f}" for value in values.tolist()]  # no minus before zero


def error_text(error: InputError) -> str:
    """Return an error as a cell of a table: one line."""
    return " ".join(str(error).split())


def model_name(ckpt: Path | None) -> str:
    """Return what compares the images, as a cell of a table."""
    if ckpt is None:
        return "correlation"
    files = [ckpt / name for name in (CONFIG, WEIGHTS)] if ckpt.is_dir() else [ckpt]
    return f"{real(ckpt).name} {sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:12]}"


def progress_bar(total: int, completed: int, label: str = "align") -> Progress:
    """Return a progress bar of one task. It is drawn to stderr, while its context is open."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shows_lines = sys.stdout is not None and sys.stdout.isatty()  # they then go above the bar, else to the file or pipe
    progress = Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=shows_lines)
    progress.add_task(label, total=total, completed=completed)
    return progress


def _lock_of(table: Path) -> Path:
    target = real(table)  # a table may have several names, by links
    return target.with_name(f".{target.name}.lock")


def _header(columns: Sequence[str]) -> str:
    return csv_line(dict(zip(columns, columns, strict=True)), columns)
