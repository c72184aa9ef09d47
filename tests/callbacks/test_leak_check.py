"""`evaluate.py leak=true` on real runs, and the table of a network that reads traces."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import NO_FIGURES, evaluated, metrics_of, rows

from stnrot.callbacks.leak_check import LeakCheck
from stnrot.errors import InputError

VIEWS = ("as trained", "bilinear", "JPEG after the rotation", "scaled first", "quarter turns only")


def test_evaluate_checks_a_run(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("leak=true", NO_FIGURES, "+trainer.limit_test_batches=1")
    folder = evaluated(str(finished / "checkpoints" / "best.ckpt"), tmp_path / "leak", *short)
    table, metrics = rows(folder / "leak.csv"), metrics_of(folder)
    assert tuple(row["view"] for row in table) == VIEWS
    trained = table[0]
    assert float(trained["within_5deg"]) == pytest.approx(metrics["test/angle_within_5deg"], abs=1e-6)
    assert float(trained["median_deg"]) == pytest.approx(metrics["test/angle_median_deg"], abs=1e-4)
    for name, worst in (("within_45deg", min), ("within_5deg", min), ("median_deg", max)):
        assert metrics[f"test/leak_{name}"] == pytest.approx(worst(float(row[name]) for row in table), abs=1e-4)
    printed = capsys.readouterr().out
    assert "leak check, 100 images" in printed
    assert all(view in printed for view in VIEWS)


def test_a_reader_of_traces_is_seen(tmp_path: Path) -> None:
    """On the first four views it knows the angle modulo 90 degrees, on the last it guesses."""
    check, logged = LeakCheck(str(tmp_path)), {}
    torch.manual_seed(0)
    quarters = 90.0 * torch.randint(-2, 2, (4000,)) + torch.randn(4000)
    check._errors = {name: [quarters[:1000], quarters[1000:]] for name in VIEWS[:4]}
    check._errors[VIEWS[4]] = [360 * torch.rand(4000) - 180]
    task = SimpleNamespace(log_dict=logged.update)
    check.on_test_epoch_end(SimpleNamespace(is_global_zero=True), task)
    table = rows(tmp_path / "leak.csv")
    for row in table[:4]:
        assert float(row["within_45deg"]) == pytest.approx(0.25, abs=0.03)
        assert float(row["within_5deg"]) == pytest.approx(0.25, abs=0.03)
        assert float(row["modulo_90_within_5deg"]) > 0.999
    assert float(table[4]["modulo_90_within_5deg"]) == pytest.approx(10 / 90, abs=0.03)
    assert logged["test/leak_within_5deg"] == pytest.approx(10 / 360, abs=0.01)
    assert logged["test/leak_median_deg"] == pytest.approx(90, abs=5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+data.max_angle_deg=90"], "with data.max_angle_deg=180, got data.max_angle_deg=90"),
        (["data=image_pairs"], "expected data such as data=image_folder or data=cifar10"),
        (["leak=1"], "leak=1: expected true or false"),
    ],
)
def test_data_without_a_known_upright_are_refused(
    finished: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    options = overrides if "leak=1" in overrides else ["leak=true", *overrides]
    with pytest.raises(InputError, match=re.escape(message)):
        evaluated(str(finished / "checkpoints" / "best.ckpt"), tmp_path / "leak", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model=cnn"], "expected a run of model=rot_stn, got CNN"),
        (["task.angle_weight=0"], "one with task.angle_weight=0"),
    ],
)
def test_models_without_a_known_upright_are_refused(job: Any, tmp_path: Path, options: list[str], message: str) -> None:
    one = [f"+trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    _, run = job(*options, NO_FIGURES, *one)
    with pytest.raises(InputError, match=re.escape(message)):
        evaluated(str(run / "checkpoints" / "last.ckpt"), tmp_path / "leak", "leak=true")
