"""The report on a study, and the command that prints it."""

import os
import re
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from conftest import rows

from stnrot.errors import InputError
from stnrot.search.heartbeat import beat, machine
from stnrot.search.report import report
from stnrot.search.study import spec_of


def test_a_running_trial_is_reported_with_its_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive, dead = study.ask(), study.ask()
    for trial in (alive, dead):
        trial.suggest_float("x", 0, 1)
    beat(alive, 0.0)
    dead.set_user_attr("worker", {"machine": machine(), "process": ended.pid, "alive": time.time()})
    ninety_seconds_ago = datetime.now() - timedelta(seconds=90)
    for stored in study.get_trials(deepcopy=False):
        stored.datetime_start = ninety_seconds_ago
    report(study, tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"^0 +running +1\.5 ", printed, re.MULTILINE)
    assert "trial 1: its process died" in printed.splitlines()
    row = rows(tmp_path / "trials.csv")[0]
    assert (row["trial"], row["state"]) == ("0", "running")
    assert float(row["minutes"]) == pytest.approx(1.5, abs=0.1)


def test_the_minutes_of_a_trial_on_another_machine_need_no_clock_of_this_one(tmp_path: Path) -> None:
    """The other clock is an hour ahead. One trial runs, of the other the process has died: it is retried from here."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):
        there = {"machine": "another", "process": 1, "alive": time.time() + 3600, "seconds": 150.0}
        study.ask().set_user_attr("worker", there)
    for stored in study.get_trials(deepcopy=False):
        stored.datetime_start = datetime.now() + timedelta(hours=1)
    study.tell(1, state=optuna.trial.TrialState.FAIL)
    report(study, tmp_path)
    assert [(row["state"], float(row["minutes"])) for row in rows(tmp_path / "trials.csv")] == [
        ("failed", 2.5),
        ("running", 2.5),
    ]


def test_a_report_whose_reader_is_gone(tmp_path: Path) -> None:
    """As in `stnrot study STORAGE | head`."""
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=storage)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        line = [sys.executable, "-m", "stnrot.cli", "study", storage]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(line, stdout=closed, stderr=subprocess.PIPE, env=buffered)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_report_to_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"^cannot write the report to {folder}: .*; choose another folder with"):
            report(optuna.create_study(), folder)


def test_studies_of_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of several metrics is refused; attributes of another form are left out."""
    several = optuna.create_study(directions=["minimize", "maximize"], study_name="two")
    with pytest.raises(InputError, match="the study two has 2 metrics: expected one"):
        report(several, tmp_path)
    for search in (5, [1], dict.fromkeys(("direction", "metric", "space", "options"), 5)):
        study = optuna.create_study()
        study.set_user_attr("search", search)
        assert spec_of(study) is None
        report(study, tmp_path)
    named = optuna.create_study(study_name="\x1b[2J")
    trial = named.ask()
    trial.suggest_float("\x1b[31mx\n", 0, 1)
    trial.suggest_categorical("$x_{$" + "x" * 2_000, ["$\\frac$", "y" * 2_000])  # the figures show neither as a formula
    named.tell(trial, 1.0)
    report(named, tmp_path)
    printed = capsys.readouterr().out
    assert "to repeat" not in printed
    assert "\x1b" not in printed
    assert r"\x1b[31mx\n" in printed
    assert (tmp_path / "parallel.png").stat().st_size < 2**19  # it does not grow with the names
