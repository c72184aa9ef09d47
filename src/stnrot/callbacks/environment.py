"""Write what a run depended on to environment.json: versions, commit, device, time."""

import json
import platform
import re
import subprocess
import time
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch

from stnrot.machine import allowed_cores
from stnrot.runs.atomic_write import atomic_write

PACKAGE = Path(__file__).parents[1]


class Environment(L.Callback):
    """Write `environment.json` into `folder` at the start of the training, after every validation epoch and at the end.

    It has the versions of stnrot, Python and torch, the commit of stnrot if it is used from a git checkout, the device,
    the number of processes, the time of the start, and the minutes since then.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "environment.json"
        self._started, self._clock = datetime.now().astimezone(), time.monotonic()

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file at the start of the training."""
        self._write(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the minutes up to this epoch."""
        self._write(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Write the minutes up to the end."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        found = {
            "stnrot": version("stnrot"),
            "commit": commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": device_name(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "started": self._started.isoformat(timespec="seconds"),
            "minutes": round((time.monotonic() - self._clock) / 60, 2),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as new:
            new.write_text(json.dumps(found, indent=2) + "\n")


@cache
def commit() -> str | None:
    """Return the commit of stnrot, with `-dirty` if files differ from it; None unless git tracks the package."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")  # the environment of another project is not tracked
    return None if tracked is None else _git("describe", "--always", "--dirty", "--exclude=*", "--abbrev=12")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", PACKAGE, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with the number of cores that the process may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:  # not on Linux
        cpuinfo = ""
    found = re.search(r"^model name\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    cores = allowed_cores()
    return f"{found[1].strip() if found else platform.machine()}, {cores} core{'s' * (cores > 1)}"
