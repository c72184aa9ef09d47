"""A Hydra callback that gives all processes of a job one folder, in which the first alone writes."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stnrot.errors import InputError, reason_of
from stnrot.printed import printable
from stnrot.runs.processes.launched import launched
from stnrot.runs.processes.meeting import meet
from stnrot.runs.stop_signals import forget_rank, is_first_process


class OneFolder(Callback):
    """Let the processes of a job meet before Hydra creates the folder of the run."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the folder of the first process, and leave Hydra's files and the log to it.

        Exit with one line if the processes do not meet. Hydra would report an exception as a warning only.
        """
        try:
            started = launched(config.get("trainer") or {})
            folder = config.hydra.run.dir
            if started is None and "LOCAL_RANK" not in os.environ:  # which the first process of a job gives to others
                forget_rank()
            elif started is not None:
                folder = meet(started, str(Path(folder).absolute()))
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else f"the processes did not meet: {reason_of(error)}"
            sys.exit(f"error: {printable(reason)}")
        if is_first_process():
            return
        with read_write(config), open_dict(config):
            config.hydra.run.dir, config.hydra.output_subdir = folder, None
            config.hydra.job_logging.root.handlers = ["console"]
            config.hydra.job_logging.handlers.pop("file", None)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Run the jobs of this multirun beside those of other processes, as a search does that srun has started.

        Exit with one line if it is a grid, of which each process would run all jobs.
        """
        if OmegaConf.select(config, "hydra.sweeper.storage") is None:
            _check_alone()
        forget_rank()


def _check_alone() -> None:
    """Exit with one line if this is one of several processes."""
    try:
        started = launched({})
    except InputError as error:
        if "SLURM_STEP_ID" in os.environ:  # else SLURM has reserved several tasks, and started one process
            sys.exit(f"error: {printable(str(error))}")
        return
    if started is not None and started.count > 1:
        sys.exit(
            f"error: {started.by} has started {started.count} processes, each of which would run all jobs of this "
            "multirun: expected one process, or a search, -m hparams_search=NAME"
        )


def only_the_first_logs() -> None:
    """Silence notices of this process, unless it is the first of its job."""
    if not is_first_process():
        logging.getLogger().setLevel(logging.WARNING)
