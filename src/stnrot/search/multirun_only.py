"""A Hydra callback that refuses a search without `-m`, before Hydra creates the folder of a run."""

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class MultirunOnly(Callback):
    """Refuse `hparams_search=...` in a single run."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line. Hydra would report an exception as a warning only."""
        search = config.hydra.runtime.choices.hparams_search
        sys.exit(f"error: hparams_search={search} runs many jobs: expected python train.py -m ...")
