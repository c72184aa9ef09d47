"""Which files of a folder were turned in place: a table beside them, so that none is turned twice."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from stnrot.errors import InputError
from stnrot.runs.tables.growing_table import Row, csv_line, locked, read_rows, replace_rows
from stnrot.turning.destination import Destination
from stnrot.turning.places import write_file

TABLE = "turned.csv"
COLUMNS = ("image", "angle_deg", "confidence", "model", "sha256")


class TurnedInPlace(Destination):
    """The images themselves, and a table in each of their folders. A folder is locked while it is worked on.

    A row holds the SHA-256 of the turned file, and it is written before the file. So an image that was turned is known
    after an interrupt at any moment, and an image that is replaced by another one is new.
    """

    takes_all = False

    def __init__(self) -> None:
        self._open = ExitStack()
        self._folder, self._locked = Path(), False
        self._rows: dict[str, Row] = {}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Unlock the folder."""
        self._open.close()

    def places(self, images: Sequence[Path]) -> list[tuple[Path, Path]]:
        """Return each file once, also if several links lead to it: it would be turned twice."""
        return list({os.path.realpath(path): (path, path) for path in reversed(images)}.values())[::-1]

    def has(self, image: Path, place: Path) -> bool:
        """Return whether an image is as it was turned."""
        self._enter(_file(image).parent)
        row = self._rows.get(_file(image).name)
        return row is not None and row["sha256"] == _hash(_file(image).read_bytes())

    def put(self, image: Path, place: Path, content: bytes | None, numbers: Mapping[str, object]) -> None:
        """Replace an image by its turned file.

        Raises:
            InputError: if another process works in its folder.
        """
        if content is None:
            return
        file = _file(image)
        self._enter(file.parent)
        if not os.access(file, os.W_OK):
            raise InputError(
                f"{image} is write-protected: expected a file that may be replaced; allow it, or use --out"
            )
        self._lock()
        if self.has(image, place):  # another process was faster
            return
        row = {"confidence": "", **numbers, "image": file.name, "sha256": _hash(content)}
        table = file.parent / TABLE
        if file.name not in self._rows:
            end = table.stat().st_size
            try:
                with table.open("a", newline="", encoding="utf-8", errors="surrogateescape") as opened:
                    opened.write(csv_line(row, COLUMNS))
                    opened.flush()
                    os.fsync(opened.fileno())
            except OSError:  # a full disk: the next row would continue a part of this one
                os.truncate(table, end)
                raise
        else:
            replace_rows(table, (self._rows | {file.name: row}).values(), COLUMNS)
        self._rows[file.name] = row
        write_file(content, file, like=file)

    def _enter(self, folder: Path) -> None:
        if folder != self._folder:
            self._open.close()
            self._folder, self._locked = Path(), False
            self._rows = _rows(folder / TABLE)
            self._folder = folder

    def _lock(self) -> None:
        if not self._locked:
            table = self._folder / TABLE
            self._open.enter_context(locked(table, "then run the same command again"))
            self._rows = _rows(table)
            replace_rows(table, self._rows.values(), COLUMNS)  # without a row that is incomplete
            self._locked = True


def _rows(table: Path) -> dict[str, Row]:
    """Return the rows of a table by the names of their images."""
    try:
        return {row["image"]: row for row in read_rows(table, COLUMNS)}
    except InputError as error:
        raise InputError(
            f"{table} is not a table of stnrot upright: expected one, or no file of this name; rename it, or use --out"
        ) from error


def _file(image: Path) -> Path:
    """Return the file itself, also behind a link."""
    return Path(os.path.realpath(image))


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()
