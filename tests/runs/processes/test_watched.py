"""A process whose first process on the same machine has ended says which one that was."""

import os
import threading
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.utilities import rank_zero_only

import stnrot.runs.processes.lost_process as lost_process
from stnrot.runs.processes.launcher import watch_processes


@pytest.mark.parametrize("machine", ["0", "1"])
def test_the_rank_of_the_process_that_has_ended(
    machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lightning tells the rank. On the second machine the process that has started this one is not process 0."""

    def trainer(local_rank: str) -> L.Trainer:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        return L.Trainer(accelerator="cpu", devices=2, num_nodes=2, strategy="ddp", logger=False)

    monkeypatch.setattr(rank_zero_only, "rank", 0)  # restored at the end: each trainer sets it for the whole process
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    monkeypatch.setattr(lost_process, "GRACE", 0.0)
    monkeypatch.setenv("NODE_RANK", machine)
    monkeypatch.setenv(lost_process.WATCHED, "-1")  # no process
    first = trainer("0").global_rank
    watch_processes(trainer("1"), tmp_path)
    assert ended.wait(20)
    line = f"error: process {first} of this job was killed or has ended with an error, so the job ends\n"
    assert capfd.readouterr().err.endswith(line)
