"""A Hydra callback: end a search with what it has found."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SearchTable(Callback):
    """Report on the study; the exit status is 1 if a trial failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the study as any process can."""
        from stnrot.search.report import report
        from stnrot.search.study import find_study
        from stnrot.search.trials import counted, failed

        sweeper = config.hydra.sweeper
        study = find_study(sweeper.storage, sweeper.study_name)
        assert study is not None
        report(study, Path(config.hydra.sweep.dir))
        if failures := failed(study.trials):
            sys.exit(f"error: {len(failures)} of {len(counted(study.trials))} trials failed, as the table says")
