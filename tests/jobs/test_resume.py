"""A stopped run resumes in its folder as if it had not been stopped; a new run starts from the weights of another."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, composed, rows, stnrot
from same_run import assert_same_run, state

import stnrot.runs.trainer as trainer_of_runs
from stnrot.errors import InputError
from stnrot.runs.resume import resumed_config
from stnrot.runs.run_lock import alone_in
from stnrot.runs.stop_signals import stops_at_signals

Job = Callable[..., tuple[float, Path]]
# six steps an epoch, log rows in the middle of it
STEPS = ("trainer.max_epochs=3", "data.batch_size=16", "trainer.log_every_n_steps=2", "callbacks.progress=null")


def started(cwd: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, str(ROOT / "train.py"), *options]
    return subprocess.Popen(
        line,
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def saved(path: Path, seconds: float = 120) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.ci
def test_a_run_that_was_killed_within_an_epoch_is_the_whole_run(job: Job, tmp_path: Path) -> None:
    """kill -9 once it has saved: it saves every second step, so nearly always while it saves or within an epoch."""
    options = [*SMALL, *STEPS, "checkpoint.every_n_steps=2"]
    _, whole = job(*options, folder=tmp_path / "whole")
    process = started(tmp_path, *options, "hydra.run.dir=cut")
    saved(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    process.kill()
    process.communicate()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert started(tmp_path, "resume=cut").wait(timeout=240) == 0
    assert_same_run(tmp_path / "cut", whole)
    assert not (tmp_path / "outputs").exists()  # Hydra's folder of the second job


@pytest.mark.ci
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_first(job: Job, tmp_path: Path, number: signal.Signals, status: int) -> None:
    """All processes of the job get the signal, those that fetch batches too. The printed command resumes the run."""
    options = [*SMALL, *STEPS, NO_FIGURES, "data.num_workers=1", "checkpoint.every_n_steps=2"]
    process = started(tmp_path, *options, "hydra.run.dir=cut")
    saved(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == status
    assert 2 <= state(tmp_path / "cut")["global_step"] < 18
    (line,) = re.findall(r"^python .*", said, re.MULTILINE)
    command = shlex.split(line)
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    _, whole = job(*options, folder=tmp_path / "whole")
    assert_same_run(tmp_path / "cut", whole)
    again = started(tmp_path, "resume=cut")
    assert "has finished; to train it longer, add trainer.max_epochs" in again.communicate(timeout=60)[0]
    assert again.returncode == 0


class Signal(L.Callback):
    """Sends SIGTERM to this process at a batch of training or validation, or at the end of a validation."""

    def __init__(self, *place: Any) -> None:
        self.place = place

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._send("train", trainer.current_epoch, batch_idx)

    def on_validation_batch_start(self, trainer: Any, task: Any, batch: Any, batch_idx: int, *args: Any) -> None:
        self._send("validate", trainer.current_epoch, batch_idx)

    def on_validation_end(self, trainer: Any, task: Any) -> None:
        self._send("validated", trainer.current_epoch)

    def _send(self, *place: Any) -> None:
        if place == self.place:
            os.kill(os.getpid(), signal.SIGTERM)


STREAMED = ("data=image_folder", "data.source.memory_gb=1e-6", "data.source.image_size=[24,24]", "data.batch_size=3")
SHARDS = ("data=image_shards", *STREAMED[1:], "data.source.open_shards=2")
EARLY = (
    "+callbacks.early._target_=lightning.pytorch.callbacks.EarlyStopping",
    "+callbacks.early.monitor=val/nll",
    "+callbacks.early.patience=1",
    "task.scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
    "+trainer.check_val_every_n_epoch=2",
    "task.optimizer.lr=0.1",
    "trainer.max_epochs=9",
)
POINTS = ("data=conjugate", "data.dim=4", "data.samples=400", "model=conjugate", "task=conjugate")
EMA = ("+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging", "+callbacks.ema.decay=0.9")
WHERE = [("train", 1, 2), ("validate", 1, 1), ("validated", 1), ("train", 1, 5), ("train", 2, 5), ("train", 0, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("options", "where"),
    [
        pytest.param(("model=rot_stn",), WHERE, id="default"),
        pytest.param(("model=rot_stn", "task.congeal_epochs=2"), WHERE[:4], id="congealing"),
        pytest.param(STREAMED, WHERE[:2], id="streamed"),
        pytest.param(SHARDS, WHERE[:2], id="shards"),
        pytest.param(EMA, WHERE[:3], id="weight averaging"),
        pytest.param(("+trainer.val_check_interval=3",), [("train", 1, 2), ("validate", 1, 1)], id="validates often"),
        pytest.param(("+trainer.max_steps=16", "trainer.max_epochs=-1"), WHERE[:4], id="steps"),
        pytest.param(("+trainer.accumulate_grad_batches=4",), WHERE[:2], id="accumulates"),
        pytest.param(EARLY, [("train", 2, 2), ("validate", 1, 1)], id="early stopping"),
        pytest.param(POINTS, WHERE[:2], id="points"),
    ],
)
def test_a_run_that_was_stopped_anywhere_is_the_whole_run(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], where: Any, workers: int
) -> None:
    from train import train

    built = trainer_of_runs.build_trainer
    common = [*SMALL, *STEPS, "model=cnn", *options]
    if options in (STREAMED, SHARDS, POINTS):
        common = [each for each in common if not each.startswith(("data.n_train", "data.repeats"))]
    if options == STREAMED:
        common.append(f"data.root={mine}")
    if options == SHARDS:
        assert stnrot("shards", mine, tmp_path / "shards", "--shard-mb", 0.02, cwd=tmp_path).returncode == 0
        common.append(f"data.root={tmp_path / 'shards'}")
    if workers and options != POINTS:
        common.append(f"data.num_workers={workers}")

    def run(cfg: Any, *place: Any, resume: bool = False) -> int:
        signals = [Signal(*place)] if place else []
        monkeypatch.setattr(trainer_of_runs, "build_trainer", lambda cfg, calls: built(cfg, [*calls, *signals]))
        try:
            with stops_at_signals():
                train(cfg, resume=resume)
        except SystemExit as stopped:
            return int(str(stopped.code))
        return 0

    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(composed("train", *common, f"output_dir={whole}")) == 0
    for number, place in enumerate(where):
        cut = tmp_path / f"cut{number}"
        cut.mkdir()
        assert run(composed("train", *common, f"output_dir={cut}"), *place) == 143, place
        cfg = resumed_config([f"resume={cut}"])
        assert run(cfg, resume=True) == 0
        assert_same_run(cut, whole)


@pytest.mark.slow
def test_two_processes_stop_and_resume_alike(tmp_path: Path) -> None:
    """SIGTERM reaches the first process alone; both stop at the same batch."""
    options = [*SMALL, *STEPS, NO_FIGURES, "model=cnn", "trainer=ddp", "checkpoint.every_n_steps=2"]
    whole = started(tmp_path, *options, "hydra.run.dir=whole")
    assert whole.wait(timeout=240) == 0
    process = started(tmp_path, *options, "hydra.run.dir=cut")
    saved(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGTERM)
    assert "resume=" in process.communicate(timeout=120)[0]
    assert process.returncode == 143
    assert len(state(tmp_path / "cut")["stands_at"]["processes"]) == 2
    assert started(tmp_path, "resume=cut").wait(timeout=240) == 0
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_one_job_at_a_time_in_a_folder(tmp_path: Path) -> None:
    """A job that is refused leaves the folder as it is; the lock of a process that was killed is free.

    It is free while a process that fetches batches has not yet noticed the kill.
    """
    holder = f"import os, sys, time; from stnrot.runs.run_lock import alone_in; folder = Path({str(tmp_path)!r})"
    wait = "os.fork() or (print(1, flush=True), time.sleep(9), os._exit(0)); input()"
    line = [sys.executable, "-c", f"from pathlib import Path; {holder}\nwith alone_in(folder): {wait}"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"1\n"
        before = list(tmp_path.iterdir())
        with pytest.raises(InputError, match="another job writes to"), alone_in(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == before
        first.kill()
    with alone_in(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.ci
def test_weights_of_64_bits_are_not_rounded(job: Job, tmp_path: Path) -> None:
    from train import train

    small = ("model=cnn", "model.classifier.width=4", "debug=one_batch", NO_FIGURES, "task.scheduler=null")
    small += ("trainer.precision=64-true",)
    _, two = job(*small, "trainer.max_epochs=2", folder=tmp_path / "two")
    _, one = job(*small, folder=tmp_path / "one")
    cfg = resumed_config([f"resume={one}", "trainer.max_epochs=2"])
    assert cfg is not None
    train(cfg, resume=True)
    weights = state(two)["state_dict"]
    for name, value in state(one)["state_dict"].items():
        assert torch.equal(value, weights[name]), name


def test_a_longer_run_plans_its_schedule_anew(job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rate of each further step is that of a run which was planned for two epochs from the start."""
    from train import train

    small = ("model=cnn", "model.classifier.width=4", "debug=one_batch", NO_FIGURES, "trainer.log_every_n_steps=1")
    _, two = job(*small, "trainer.max_epochs=2", folder=tmp_path / "two")
    _, one = job(*small, folder=tmp_path / "one")
    assert state(one)["lr_schedulers"][0]["total_steps"] == 1
    cfg = resumed_config([f"resume={one}", "trainer.max_epochs=2"])
    assert cfg is not None
    with caplog.at_level("INFO"):
        train(cfg, resume=True)
    assert "the schedule was planned for 1 steps, this run has 2: from step 1 on, the learning rates" in caplog.text
    tables = [rows(run / "csv" / "version_0" / "metrics.csv") for run in (one, two)]
    rates = [[row["lr-AdamW"] for row in table if row["lr-AdamW"]] for table in tables]
    assert len(rates[0]) == 2
    assert rates[0][1] == rates[1][1]
    assert state(one)["lr_schedulers"] == state(two)["lr_schedulers"]

    forged = state(two)
    forged["optimizer_states"][0]["param_groups"] = []
    torch.save(forged, tmp_path / "forged.ckpt")
    with pytest.raises(InputError, match=r"forged\.ckpt cannot be resumed: loaded state dict has a different number"):
        job(*small, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'forged.ckpt'}", folder=tmp_path / "three")
    torch.save(forged | {"loops": [1]}, tmp_path / "forged.ckpt")
    with pytest.raises(InputError, match=r"forged\.ckpt cannot be resumed: its loops are of the type list of int"):
        job(*small, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'forged.ckpt'}", folder=tmp_path / "three")

    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    cfg = resumed_config([f"resume={two}", "trainer.max_epochs=1"])
    assert cfg is not None
    with pytest.raises(InputError, match=r"trainer\.max_epochs=1: expected at least 2"):
        train(cfg, resume=True)
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == before


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
