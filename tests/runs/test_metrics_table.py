"""The table of a run's metrics; Lightning's own CSV logger is the oracle."""

import csv
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from stnrot.runs.metrics_table import MetricsTable

ROWS: list[tuple[dict[str, float], int]] = [
    ({"lr": 0.1, "epoch": 0}, 0),
    ({"val/loss": 1 / 3, "epoch": 0}, 1),
    ({"train/loss": 2.5, "epoch": 0}, 1),
    ({"lr": 1e-5, "epoch": 1}, 2),
]


def written(log: MetricsTable | CSVLogger, rows: list[tuple[dict[str, float], int]]) -> bytes:
    for metrics, step in rows:
        log.log_metrics(metrics, step)
        log.save()
    return (Path(log.log_dir) / "metrics.csv").read_bytes()


def test_it_is_the_table_of_lightning(tmp_path: Path) -> None:
    expected = written(CSVLogger(str(tmp_path), "lightning"), ROWS)
    table = MetricsTable(str(tmp_path), "ours")
    assert written(table, ROWS) == expected
    assert table.log_dir == str(tmp_path / "ours" / "version_0")
    assert MetricsTable(str(tmp_path), "ours").log_dir == str(tmp_path / "ours" / "version_1")


@pytest.mark.parametrize("kept", range(len(ROWS) + 1))
def test_a_table_that_is_continued_is_the_whole_table(tmp_path: Path, kept: int) -> None:
    """The rows after the position are lost, with a row that a kill has cut short."""
    first = MetricsTable(str(tmp_path), "log")
    if kept:
        written(first, ROWS[:kept])
    position = first.position()
    path = Path(first.log_dir) / "metrics.csv"
    whole = written(first, [*ROWS[kept:], ({"new": 1.0}, 9)])
    path.write_bytes(whole[:-4])
    again = MetricsTable(str(tmp_path), "log")
    again.rewind(position)
    expected = written(CSVLogger(str(tmp_path), "whole"), ROWS)
    assert (written(again, ROWS[kept:]) if kept < len(ROWS) else path.read_bytes()) == expected
    assert [each.name for each in path.parent.iterdir()] == ["metrics.csv"]


def test_a_table_that_starts_again(tmp_path: Path) -> None:
    written(MetricsTable(str(tmp_path), "log"), ROWS)
    table = MetricsTable(str(tmp_path), "log")
    table.rewind(None)
    written(table, ROWS[:1])
    with (tmp_path / "log" / "version_0" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 2
