"""Tables that are cut anywhere, as by a kill, are compared with what Python's csv module reads from the whole."""

import csv
import io
from pathlib import Path

import pytest

from stnrot.errors import InputError
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.tables.growing_table import csv_line, read_rows

COLUMNS = ("image", "error")
NAMES = ["a.png", 'two\nlines, "one" name.png', "\r\n.png", '"', "last\n.png"]


def test_a_table_that_is_cut_anywhere_has_its_whole_rows(tmp_path: Path) -> None:
    lines = [csv_line({"image": name, "error": ""}, COLUMNS) for name in NAMES]
    header = ",".join(COLUMNS) + "\r\n"
    whole = header + "".join(lines)
    assert [row["image"] for row in csv.DictReader(io.StringIO(whole, newline=""))] == NAMES
    table = tmp_path / "table.csv"
    for end in range(len(whole) + 1):
        table.write_bytes(whole[:end].encode())
        complete = sum(len(header + "".join(lines[: k + 1])) <= end for k in range(len(lines)))
        assert [row["image"] for row in read_rows(table, COLUMNS)] == NAMES[:complete], end


@pytest.mark.parametrize("line", ["a.png", "a.png,,1"])
def test_a_row_with_other_cells_is_refused(tmp_path: Path, line: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"image,error\n{line}\n")
    with pytest.raises(InputError, match="is not a table of this command"):
        read_rows(table, COLUMNS)


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127):
        with atomic_write(tmp_path / name) as new:
            new.write_text("all")
        assert (tmp_path / name).read_text() == "all"
    assert len(list(tmp_path.iterdir())) == 2
