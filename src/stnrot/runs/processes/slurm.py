"""A job of SLURM that is stopped before its end, and runs again by the same command.

`sbatch --signal=USR1@90` announces the end of the time limit by a signal; the job saves and asks to be queued again. If
SLURM pre-empts a job it sends SIGTERM. With `PreemptMode=REQUEUE` it queues only those again that have not ended within
the grace time of the partition, so a job that has saved asks for it here too. SIGTERM of `scancel` ends the job.
"""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

NOTE = "slurm_job"  # file in the folder of a run


def announcing_signal() -> int | None:
    """Return the signal that announces the end of this job, None outside of SLURM.

    It is SIGUSR1, or the one that submitit has chosen.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return None
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2") if "SUBMITIT_EXECUTOR" in os.environ else "USR1"
    return signal.Signals[f"SIG{name}"]


def note_job(folder: Path) -> None:
    """Note in the folder of a run which job of SLURM it is."""
    if (job := _job()) is not None:
        (folder / NOTE).write_text(job)


def requeue() -> bool:
    """Ask SLURM to run this job again; return whether it will.

    SLURM sends SIGTERM to such a job at once. From here on it is ignored, so that the job says how it has ended.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _scontrol("requeue") is not None:
        return True
    signal.signal(signal.SIGTERM, before)
    return False


def is_preempted() -> bool:
    """Return whether SLURM is about to stop this job, because a more important one needs its place."""
    return re.search(r"\bPreemptTime=\d", _scontrol("show", "job") or "") is not None


def requeued_run(arguments: Sequence[str]) -> Path | None:
    """Return the folder in which this job ran before SLURM queued it again, None if it runs for the first time.

    Args:
        arguments: the command line. Its hydra.run.dir is searched, or else outputs/train.
    """
    if any(each.startswith("-") for each in arguments):
        return None  # a multirun asks `has_run_in` for each job
    given = [each.partition("=")[2] for each in arguments if each.startswith("hydra.run.dir=")]
    folders = [Path(given[-1])] if given else [each.parent for each in Path("outputs/train").glob(f"**/{NOTE}")]
    runs = filter(has_run_in, folders)
    return max(runs, key=lambda run: (run / NOTE).stat().st_mtime, default=None)


def has_run_in(folder: Path) -> bool:
    """Return whether SLURM has queued this job again, after it has run in a folder."""
    job, note = _job(), folder / NOTE
    if job is None or os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return False
    return note.is_file() and note.read_text() == job and (folder / "config.yaml").is_file()


def _scontrol(*words: str) -> str | None:
    """Return what `scontrol` prints about this job, None if it fails."""
    job = _job()
    try:
        done = job and subprocess.run(["scontrol", *words, job], stdout=subprocess.PIPE, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done and done.returncode == 0 else None


def _job() -> str | None:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
