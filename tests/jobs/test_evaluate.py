"""evaluate.py repeats the test of a run, and tests it on other data."""

from pathlib import Path

import pytest
from conftest import NO_FIGURES, evaluated, metrics_of


def of_the_test(folder: Path) -> dict[str, float]:
    return {name: value for name, value in metrics_of(folder).items() if name.startswith("test/")}


def test_evaluate_repeats_the_numbers_of_training(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.parents[3])
    again = evaluated("latest", tmp_path / "again", "callbacks.alignment_figures.samples=10")
    assert metrics_of(again) == of_the_test(finished)
    assert (again / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()
    assert (again / "pictures" / "test" / "alignment.png").read_bytes() == (
        finished / "pictures" / "test" / "alignment.png"
    ).read_bytes()
    assert "test/accuracy" in capsys.readouterr().out


def test_evaluate_on_other_data_and_changed_data(finished: Path, tmp_path: Path) -> None:
    ckpt = str(finished / "checkpoints" / "best.ckpt")
    other = evaluated(ckpt, tmp_path / "other", NO_FIGURES, "data=rotated_digits", "data.max_angle_deg=10")
    changed = evaluated(ckpt, tmp_path / "changed", NO_FIGURES, "+data.max_angle_deg=10")
    assert metrics_of(other) == metrics_of(changed)
    assert metrics_of(other) != of_the_test(finished)
