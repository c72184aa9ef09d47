"""A Hydra callback: refuse a single run of what is for many jobs, before Hydra makes the folder of the run."""

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class MultirunOnly(Callback):
    """For `hparams_search`."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the command: Hydra would turn an exception into a warning."""
        search = config.hydra.runtime.choices.hparams_search
        sys.exit(f"error: hparams_search={search} is for many jobs: expected python train.py -m ...")
