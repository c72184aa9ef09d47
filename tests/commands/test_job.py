"""`stnrot train` with several processes: the command by which Lightning starts the others."""

import sys
from importlib.machinery import ModuleSpec

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd

from stnrot.commands.job import run_job
from stnrot.jobs import train as job


@pytest.mark.parametrize("spec", [None, ModuleSpec("stnrot.cli", None)], ids=["stnrot", "python -m stnrot.cli"])
def test_further_processes_run_the_job(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["stnrot", "train"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(job, "command", lambda: started.append([str(part) for part in _basic_subprocess_cmd()]))
    run_job("train", ["trainer=ddp"])
    assert started == [[sys.executable, job.__file__, "trainer=ddp"]]
