"""Tables on the screen, and as CSV."""

import csv
from pathlib import Path

import pytest

from stnrot.runs.tables import decimals, print_table, short_names, write_table

COLUMNS = {
    "job": ["0", "1"],
    "model": ["affine_stn", "cnn"],
    "angle_mean_deg": ["12.3456 ± 0.1234", ""],
    "val/nll": ["0.1234", "2.3456"],
    "photometric_loss": ["1.0000 ± 0.1000", "2.0000 ± 0.2000"],
}


@pytest.mark.parametrize("width", [20, 40, 80])
def test_nothing_is_broken_or_left_out(
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
    widest = 14 + 1 + 16  # the keys and one more
    assert max(map(len, lines)) <= max(width, widest)


def test_a_head_is_broken_at_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("jobs", {"job": ["0"], "task.encoder_lr": ["0.1"]}, keys=1)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        [], ["jobs"], [], ["task."], ["encoder_"], ["job", "lr"], ["───", "────────"], ["0", "0.1"], []]  # fmt: skip


def test_names_are_as_short_as_they_differ() -> None:
    names = ["seed", "model", "model/encoder", "model.classifier.width", "model.encoder.width"]
    assert short_names(names) == ["seed", "model", "encoder", "classifier.width", "encoder.width"]


def test_csv(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", {"job": [0, 1], "model": ["a,b", "cnn"]})
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["job", "model"], ["0", "a,b"], ["1", "cnn"]]


def test_a_column_has_the_digits_of_its_largest_number() -> None:
    assert [decimals(values) for values in ([0.98, 2.3], [0.5, -88.0], [])] == [4, 2, 4]
