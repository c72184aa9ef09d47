"""Run train.py and evaluate.py as a user would, each in a process and a folder of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# overrides that make a job of any experiment with images last seconds
QUICK = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "+trainer.limit_train_batches=2",
    "+trainer.limit_val_batches=1",
    "+trainer.limit_test_batches=1",
    "data.batch_size=8",
    "callbacks.alignment_figures.samples=2",
)


def run_job(script: str, folder: Path, overrides: Sequence[str], threads: int | None = None) -> float:
    """Run a script, which writes into a folder that is emptied first, and return the core-minutes that it took.

    Args:
        threads: of torch; all cores by default.
    """
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted job
    folder.mkdir(parents=True)
    command = [sys.executable, str(PROJECT / script), *overrides, f"hydra.run.dir='{folder.absolute()}'"]
    environ = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen([*command, "callbacks.progress=null"], stdout=output, stderr=output, env=environ)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}; see {folder / 'output.txt'}")
    return (used.ru_utime + used.ru_stime) / 60


def trained(folder: Path, overrides: Sequence[str]) -> Path:
    """Return the checkpoint of the run in a folder; train it first if the folder holds no finished run."""
    if not (folder / "metrics.json").exists():
        run_job("train.py", folder, overrides)
    return best(folder)


def best(folder: Path) -> Path:
    """Return the checkpoint of a run."""
    return folder / "checkpoints" / "best.ckpt"
