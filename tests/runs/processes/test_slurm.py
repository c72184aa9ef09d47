"""A job of SLURM that runs again; a script in the place of scontrol."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, metrics_of, rows

from stnrot.runs.processes.slurm import NOTE, announcing_signal, note_job, requeue, requeued_run


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which `scontrol` notes what it was asked."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def test_a_job_is_found_again(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [slurm / "outputs" / "train" / name for name in ("a", "b")]
    for run in (*runs, slurm / "mine"):
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
    note_job(runs[1])
    (runs[0] / NOTE).write_text("16")
    assert requeued_run(["seed=1"]) is None  # it runs for the first time
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requeued_run(["seed=1"]) == runs[1].relative_to(slurm)
    assert requeued_run(["hydra.run.dir=mine"]) is None
    note_job(slurm / "mine")
    assert requeued_run(["hydra.run.dir=mine"]) == Path("mine")
    assert requeued_run(["-m", "seed=1,2"]) is None
    assert requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue()
    assert (slurm / "asked").read_text() == "requeue 17\nrequeue 9_3\n"


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    note_job(tmp_path)
    assert not any(tmp_path.iterdir())
    assert announcing_signal() is None
    assert requeued_run([]) is None
    assert not requeue()


@pytest.mark.slow
def test_a_job_that_slurm_announces_to_stop_runs_again(slurm: Path) -> None:
    """The same command then resumes the run."""
    environment = ENVIRONMENT | {name: os.environ[name] for name in ("PATH", "SLURM_JOB_ID")}
    line = [sys.executable, str(ROOT / "train.py"), *SMALL, NO_FIGURES, "trainer.max_epochs=12", "data.batch_size=16"]
    process = subprocess.Popen(line, cwd=slurm, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(slurm.glob("outputs/train/*/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert "SLURM has queued this job again" in process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert (slurm / "asked").read_text() == "requeue 17\n"
    again = subprocess.run(line, cwd=slurm, env=environment | {"SLURM_RESTART_COUNT": "1"}, timeout=240)
    assert again.returncode == 0
    (run,) = slurm.glob("outputs/train/*/*")
    assert metrics_of(run)
    epochs = [int(row["epoch"]) for row in rows(run / "csv" / "version_0" / "metrics.csv") if row["train/loss"]]
    assert epochs == list(range(12))
