"""A Hydra callback: refuse a single run of what is for many jobs, before Hydra makes the folder of the run."""

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class MultirunOnly(Callback):
    """Of `hparams_search`."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the command; an error would be a warning to Hydra."""
        search = config.hydra.runtime.choices.hparams_search
        sys.exit(f"error: hparams_search={search} is for many jobs: expected python train.py -m ...")
