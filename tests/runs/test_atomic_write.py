"""A file is the old one or the new one, whatever happens while it is written."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

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
