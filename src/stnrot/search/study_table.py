"""A Hydra callback that reports on the study when a search ends."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class StudyTable(Callback):
    """Report on the study. The exit status is 1 if a trial failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the study from its storage and report."""
        from stnrot.search.report import report
        from stnrot.search.storage import when_reachable
        from stnrot.search.study import find_study
        from stnrot.search.trials import counted, failed

        sweeper = config.hydra.sweeper
        study = when_reachable(sweeper.storage, lambda: find_study(sweeper.storage, sweeper.study_name))
        assert study is not None
        report(study, Path(config.hydra.sweep.dir))
        if failures := failed(study.trials):
            sys.exit(f"error: {len(failures)} of {len(counted(study.trials))} trials failed, see the lines above")
