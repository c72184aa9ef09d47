"""Lightning's launcher of the processes on one machine, with another watch over them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from stnrot.runs.processes.lost_process import WATCHED, watch_first, watch_others


class Launcher(_SubprocessScriptLauncher):
    """Start the other processes of this machine, each by the command of this one.

    If one of them dies, Lightning's launcher kills this process by signal 9, with no message of its own. This one says
    which it was.

    Args:
        launcher: of Lightning, which it replaces.
        folder: of the run.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, folder: Path) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.folder, self._killed = folder, threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> Any:
        """Start the processes at the first call, and call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            _set_num_threads_if_needed(self.num_processes)  # before, so that the others inherit it
            os.environ[WATCHED] = str(os.getpid())
            self._call_children_scripts()
            first = self.cluster_environment.node_rank() * self.num_processes + 1
            watch_others(self.procs, first, self.folder, self._killed)
        return function(*args, **kwargs)

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes; Lightning calls this method at Ctrl-C."""
        self._killed.set()
        super().kill(signum)


def watch_processes(trainer: L.Trainer, folder: Path) -> None:
    """Let the processes that the first one of a machine starts watch each other."""
    strategy: Any = trainer.strategy
    if isinstance(strategy.launcher, _SubprocessScriptLauncher):
        strategy._launcher = Launcher(strategy.launcher, folder)
    watch_first(folder, trainer.node_rank * trainer.num_devices)
