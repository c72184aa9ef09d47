"""The log of a run as a table, metrics.csv, which a resumed run continues."""

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.run_lock import check_folders_stay


class MetricsTable(Logger):
    """Write one row for each logged step, with the columns of all metrics in alphabetical order.

    Lightning's `CSVLogger` writes the same table. It deletes the table of its folder when it starts, and a kill while
    it adds a column would lose the rows; here the file is replaced atomically.

    Args:
        save_dir: parent of the log folder.
        name: of the log folder. The table is in its subfolder version_0; if a log is there already, in the next one.
    """

    def __init__(self, save_dir: str, name: str) -> None:
        super().__init__()
        self._folder, self._name = Path(save_dir) / name, name
        self._version: int | None = None
        self._columns: list[str] = []
        self._written = 0
        self._pending: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Name of the log folder."""
        return self._name

    @property
    def version(self) -> int:
        """Number of the subfolder."""
        if self._version is None:
            self._version = 1 + max(self._versions(), default=-1)
        return self._version

    @property
    def save_dir(self) -> str:
        """Parent of the log folder."""
        return str(self._folder.parent)

    @property
    def log_dir(self) -> str:
        """Folder of the table."""
        return str(self._folder / f"version_{self.version}")

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the folder of the run has its config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row; `save` writes it."""
        row = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        self._pending.append(row | {"step": self._written + len(self._pending) if step is None else step})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows."""
        if not self._pending:
            return
        check_folders_stay()  # before it makes the folder again
        path = Path(self.log_dir) / "metrics.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = sorted({*self._columns}.union(*self._pending))
        if columns != self._columns:
            self._replace(path, columns, _rows(path) if self._written else [])
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerows(self._pending)
        self._written += len(self._pending)
        self._pending = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rows."""
        self.save()

    def position(self) -> dict[str, Any]:
        """Write all rows, and return their number and the columns."""
        self.save()
        return {"rows": self._written, "columns": list(self._columns)}

    def rewind(self, position: dict[str, Any] | None) -> None:
        """Continue the newest table after as many rows as a position has."""
        self._version = max(self._versions(), default=0)
        path = Path(self.log_dir) / "metrics.csv"
        if position is None or not position["rows"]:
            path.unlink(missing_ok=True)
            return
        rows = _rows(path)[: position["rows"]]
        self._replace(path, position["columns"], [{n: row.get(n, "") for n in position["columns"]} for row in rows])
        self._written = len(rows)

    def _replace(self, path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
        with atomic_write(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self._columns = list(columns)

    def _versions(self) -> list[int]:
        names = [each.removeprefix("version_") for each in os.listdir(self._folder)] if self._folder.is_dir() else []
        return [int(name) for name in names if name.isdecimal()]


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    check_regular(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {reason_of(error)}; move it away to resume without it") from error
