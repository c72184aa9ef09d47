"""A file is the old one or the new one, whatever happens while it is written."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, metrics_of

from stnrot.runs.atomic_write import HOST, atomic_write, sweep
from stnrot.runs.checkpoints import AtomicCheckpointIO


def save_for_ever(path: Path, epoch: int) -> None:
    while True:
        epoch += 1
        AtomicCheckpointIO().save_checkpoint({"epoch": epoch, "weights": torch.full((100_000,), epoch)}, path)


def test_what_a_killed_process_has_left(tmp_path: Path) -> None:
    """The process that is looked for has ended and been waited for, so its number is free."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "checkpoints").mkdir()
    litter = tmp_path / "checkpoints" / f".last.ckpt.stnrot-{HOST}-{ended.pid}"
    own = tmp_path / f".a\nb.stnrot-{HOST}-{os.getpid()}"
    kept = [
        tmp_path / f".last.ckpt.stnrot-{HOST}-{os.getppid()}",  # still runs
        tmp_path / f".last.ckpt.stnrot-{HOST}x-{ended.pid}",  # of another host
        tmp_path / f"last.ckpt.stnrot-{HOST}-{ended.pid}",
        tmp_path / ".notes.1",
    ]
    for path in (litter, own, *kept):
        path.touch()
    sweep(tmp_path)
    assert not litter.exists()
    assert not own.exists()
    assert all(path.exists() for path in kept)


def test_the_name_of_the_new_file_is_known_to_sweep(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as new:
        new.touch()
        sweep(tmp_path)
        assert not new.exists()
        new.touch()


@pytest.mark.slow
def test_two_hundred_kills_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delays cover several saves; the temporary folder is on another file system."""
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    path, epoch, left = tmp_path / "last.ckpt", 0, 0
    AtomicCheckpointIO().save_checkpoint({"epoch": 0, "weights": torch.zeros(100_000)}, path)
    for number in range(200):
        process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(path, epoch))
        process.start()
        time.sleep(0.01 + number * 0.0003)
        process.kill()
        process.join()
        saved = torch.load(path)
        assert saved["weights"].eq(saved["epoch"]).all()
        assert saved["epoch"] >= epoch
        epoch = saved["epoch"]
        left += len(list(tmp_path.iterdir())) - 1
        sweep(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    assert epoch > 0, "expected some kills after a save"
    assert left > 0, "expected some kills while a file was written"


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 3 MB, for those who may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    return folder


@pytest.mark.slow
def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """The job ends with one line and a status that is not 0; the checkpoint before stays, and with room it resumes."""
    options = [*SMALL, "trainer.max_epochs=3", "model=cnn", "model.classifier.width=8", NO_FIGURES]
    run = small_disk / "run"
    line = [sys.executable, str(ROOT / "train.py")]
    kwargs = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 240}
    try:
        filler = small_disk / "filler"
        first = subprocess.run([*line, *options, "trainer.max_epochs=1", f"hydra.run.dir={run}"], **kwargs)
        assert first.returncode == 0, first.stderr
        good = torch.load(run / "checkpoints" / "last.ckpt")
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        full = subprocess.run([*line, f"resume={run}", "trainer.max_epochs=3"], **kwargs)
        assert full.returncode == 1
        errors = [each for each in full.stderr.splitlines() if "rror" in each]
        assert len(errors) == 1, full.stderr
        assert "No space left on device" in errors[0]
        assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == good["global_step"]
        filler.unlink()
        done = subprocess.run([*line, f"resume={run}", "trainer.max_epochs=3"], **kwargs)
        assert done.returncode == 0, done.stderr
        assert metrics_of(run)
        assert not list(run.rglob(".*.stnrot-*"))
    finally:
        subprocess.run(["umount", small_disk], check=True)
