"""Printed tables, and CSV."""

import csv
from pathlib import Path

import pytest

from stnrot.runs.tables.columns import decimals, print_table, short_names, write_table

COLUMNS = {
    "job": ["0", "1"],
    "model": ["affine_stn", "cnn"],
    "angle_mean_deg": ["12.3456 ± 0.1234", ""],
    "val/nll": ["0.1234", "2.3456"],
    "photometric_loss": ["1.0000 ± 0.1000", "2.0000 ± 0.2000"],
}


@pytest.mark.parametrize("width", [20, 40, 80])
def test_cells_are_never_broken_or_left_out(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("jobs", COLUMNS, keys=2)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    for entries in COLUMNS.values():
        assert all(entry in printed for entry in entries)
    blocks = [line for line in lines if line.startswith("0   affine_stn ")]
    assert len(blocks) == {20: 3, 40: 2, 80: 1}[width]
    widest = 14 + 1 + 16  # the key columns and one more
    assert max(map(len, lines)) <= max(width, widest)


def test_cells_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No colours in a pipe, and square brackets are not read as rich's markup."""
    print_table("jobs", {"job": ["0"], "list": ["[1,2]"], "tag": ["[red]x[/red]"]}, keys=1)
    assert capsys.readouterr().out.splitlines()[-2].split() == ["0", "[1,2]", "[red]x[/red]"]


def test_wide_characters_stay_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """A Chinese character takes two places of a terminal."""
    print_table("classes", {"name": ["猫", "cat"], "angle": ["1.0", "2.0"]}, keys=1)
    assert capsys.readouterr().out.splitlines()[-3:-1] == ["猫     1.0", "cat    2.0"]


def test_a_header_wraps_at_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("jobs", {"job": ["0"], "task.encoder_lr": ["0.1"]}, keys=1)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        [], ["jobs"], [], ["task."], ["encoder_"], ["job", "lr"], ["────────────"], ["0", "0.1"], []]  # fmt: skip


def test_names_are_shortened_to_where_they_differ() -> None:
    names = ["seed", "model", "model/encoder", "model.classifier.width", "model.encoder.width"]
    assert short_names(names) == ["seed", "model", "encoder", "classifier.width", "encoder.width"]


def test_csv(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", {"job": [0, 1], "model": ["a,b", "cnn"]})
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["job", "model"], ["0", "a,b"], ["1", "cnn"]]


def test_the_largest_number_of_a_column_decides_its_decimals() -> None:
    assert [decimals(values) for values in ([0.98, 2.3], [0.5, -88.0], [])] == [4, 2, 4]
