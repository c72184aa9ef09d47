"""A file is the old one or the new one, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, metrics_of

from stnrot.runs.atomic_write import HOST, atomic_write, sweep

SAVES = """
import sys, torch
from pathlib import Path
from stnrot.runs.checkpoints import AtomicCheckpointIO
for epoch in range(10**9):
    AtomicCheckpointIO().save_checkpoint({"epoch": epoch, "weights": torch.full((300_000,), epoch)}, Path(sys.argv[1]))
"""


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
def test_two_hundred_kills_while_saving(tmp_path: Path) -> None:
    """The delays cover several saves; the temporary folder is on another file system. No checkpoint is unreadable."""
    path = tmp_path / "last.ckpt"
    environment = ENVIRONMENT | {"TMPDIR": "/dev/shm"}
    readable, left = 0, 0
    for number in range(200):
        before = torch.load(path)["epoch"] if path.exists() else -1
        process = subprocess.Popen([sys.executable, "-c", SAVES, str(path)], cwd=ROOT, env=environment)
        changed = path.stat().st_ino if path.exists() else None
        while not path.exists() or path.stat().st_ino == changed:
            time.sleep(0.001)
            assert process.poll() is None
        time.sleep(number * 0.0002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = torch.load(path)
        assert saved["weights"].eq(saved["epoch"]).all()
        assert saved["epoch"] >= 0 > before or before >= 0
        readable += 1
        left += len(list(tmp_path.iterdir())) - 1
        sweep(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    assert readable == 200
    assert left > 10, "expected kills while a file was written"


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
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            except OSError:
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
