"""A Hydra callback that refuses a job in the folder of an earlier one, whose record Hydra would replace."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from stnrot.errors import InputError
from stnrot.printed import printable
from stnrot.runs.run_lock import NAME, alone_in
from stnrot.runs.stop_signals import is_first_process


class EarlierRun(Callback):
    """Check the folder of a single job, or of a multirun, before Hydra writes there.

    Hydra notes the options of a job in `.hydra` before it calls the job. The job makes the same checks, but then the
    options of the earlier job are lost, which `stnrot report` and `stnrot publish` show.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit if another job works in the folder, or if it holds the checkpoints or the results of another run."""
        folder = Path(config.hydra.run.dir).absolute()
        try:
            if is_first_process():
                _check(folder, config)
        except InputError as error:  # Hydra would report an exception as a warning only
            sys.exit(f"error: {printable(str(error))}")
        except OSError:
            return  # the job itself will end with it

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit if the folder holds runs of another multirun: its table would have their metrics, and new options.

        A search resumes in its folder.
        """
        folder = Path(config.hydra.sweep.dir)
        runs = [path for name in ("checkpoints/*.ckpt", "metrics.json") for path in folder.glob(f"*/{name}")]
        if runs and "storage" not in config.hydra.sweeper:
            sys.exit(printable(f"error: {folder} holds the runs of another multirun: choose another hydra.sweep.dir"))


def _check(folder: Path, config: DictConfig) -> None:
    has_checkpoints = any((folder / "checkpoints").glob("*.ckpt"))
    if has_checkpoints or (folder / NAME).exists():
        with alone_in(folder):
            pass
    if has_checkpoints:
        from stnrot.runs.config_checks import check_folder  # imports Lightning

        check_folder(folder, config.get("ckpt_path"))
    if "ckpt" in config:
        check_results(folder)


def check_results(folder: Path) -> None:
    """Raise InputError if the folder of an evaluation has the results of another run."""
    if (folder / "metrics.json").exists():
        raise InputError(f"{folder} holds the results of another run: choose another hydra.run.dir")
