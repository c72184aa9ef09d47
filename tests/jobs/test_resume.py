"""A stopped run resumes as if it had not been stopped; a new run starts from the weights of another."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, epochs, metrics_of

from stnrot.errors import InputError

Job = Callable[..., tuple[float, Path]]


@pytest.mark.ci
def test_a_killed_run_resumes_to_the_metrics_of_the_whole_run(job: Job, tmp_path: Path) -> None:
    """kill -9 after the second epoch. Only the killed run draws figures; the folder of an epoch shows when to kill."""
    options = ["trainer.max_epochs=4", "data.n_train=200"]
    _, whole = job(*options, NO_FIGURES, folder=tmp_path / "whole")
    arguments = [sys.executable, str(ROOT / "train.py"), *SMALL, *options, f"hydra.run.dir={tmp_path / 'cut'}"]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "pictures" / "epoch_001").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    _, resumed = job(*options, NO_FIGURES, f"ckpt_path={last}", folder=tmp_path / "on")
    assert metrics_of(resumed) == metrics_of(whole)
    assert epochs(resumed) < epochs(whole) == {0, 1, 2, 3}


@pytest.mark.ci
def test_sigterm_exits_with_143(tmp_path: Path) -> None:
    arguments = [
        sys.executable,
        str(ROOT / "train.py"),
        *SMALL,
        "trainer.max_epochs=500",
        "hydra.run.dir=run",
    ]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_more_epochs_than_the_schedule_was_made_for(job: Job, tmp_path: Path) -> None:
    _, part = job("model=cnn", "debug=one_batch", folder=tmp_path / "part")
    options = ("model=cnn", "debug=one_batch", f"ckpt_path={part / 'checkpoints' / 'last.ckpt'}")
    with pytest.raises(InputError, match=r"planned for 1 steps, this run has 2: give the same"):
        job(*options, "trainer.max_epochs=2", folder=tmp_path / "rest")


def test_a_new_run_starts_from_the_weights_of_another(job: Job, tmp_path: Path) -> None:
    """At a learning rate of 0 it also ends with them. Its steps are counted from 0."""
    _, first = job("model=cnn", "debug=one_batch", "trainer.max_epochs=2", folder=tmp_path / "first")
    given = first / "checkpoints" / "last.ckpt"
    options = ("model=cnn", "debug=one_batch", "seed=2", "task.optimizer.lr=0", f"start_from={given}")
    _, second = job(*options, folder=tmp_path / "second")
    before, after = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu") for run in (first, second)
    )
    weights = [name for name in before["state_dict"] if name.endswith(("weight", "bias"))]
    assert weights
    for name in weights:
        assert torch.equal(before["state_dict"][name], after["state_dict"][name]), name
    assert (before["global_step"], after["global_step"]) == (2, 1)
