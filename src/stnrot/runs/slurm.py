"""A job of SLURM that is stopped before its end, and runs again by the same command.

`sbatch --signal=USR1@90` announces the end of the time limit by a signal; the job saves and asks to be queued again. If
SLURM pre-empts a job it sends SIGTERM, and with `PreemptMode=REQUEUE` queues it again itself.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

NOTE = "slurm_job"  # file in the folder of a run


def announcing_signal() -> int | None:
    """Return the signal that announces the end of this job, None outside of SLURM."""
    return None if "SLURM_JOB_ID" not in os.environ else signal.SIGUSR1


def note_job(folder: Path) -> None:
    """Note in the folder of a run which job of SLURM it is."""
    if (job := _job()) is not None:
        (folder / NOTE).write_text(job)


def requeue() -> bool:
    """Ask SLURM to run this job again; return whether it will."""
    job = _job()
    try:
        return job is not None and subprocess.run(["scontrol", "requeue", job], timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def requeued_run(arguments: Sequence[str]) -> Path | None:
    """Return the folder in which this job ran before SLURM queued it again, None if it runs for the first time.

    Args:
        arguments: the command line. Its hydra.run.dir is searched, or else outputs/train.
    """
    job = _job()
    if (
        job is None
        or os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
        or any(each.startswith("-") for each in arguments)
    ):
        return None
    given = [each.partition("=")[2] for each in arguments if each.startswith("hydra.run.dir=")]
    notes = [Path(given[-1]) / NOTE] if given else Path("outputs/train").glob(f"**/{NOTE}")
    found = [each for each in notes if each.is_file() and each.read_text() == job]
    runs = [each.parent for each in found if (each.parent / "config.yaml").is_file()]
    return max(runs, key=lambda run: (run / NOTE).stat().st_mtime, default=None)


def _job() -> str | None:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
