"""The loop of a search stops at a Ctrl-C also where Python loses its KeyboardInterrupt. The jobs are functions."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf
from optuna.trial import TrialState

from stnrot.search.config import SearchConfig
from stnrot.search.loop import Search
from stnrot.search.space import Space


class Functions(Launcher):
    """Calls a function for each job; its argument is the number of the trial."""

    def __init__(self, job: Callable[[int], float]) -> None:
        self.job = job

    def setup(self, **context: Any) -> None:
        """Nothing to prepare."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        try:
            return [JobReturn(status=JobStatus.COMPLETED, _return_value=self.job(initial_job_idx))]
        except Exception as error:
            return [JobReturn(status=JobStatus.FAILED, _return_value=error)]


def search(study: optuna.Study, folder: Path, job: Callable[[int], float]) -> None:
    """Search with three trials, one at a time."""
    config = SearchConfig(
        sampler=partial(optuna.samplers.RandomSampler, seed=0),
        direction="minimize",
        storage=str(folder / "study.log"),  # only for the lock
        study_name="three",
        n_trials=3,
        n_jobs=1,
        max_failure_rate=1.0,
        params={"x": "interval(0,1)"},
        custom_search_space=None,
    )
    space = Space(config.params, [], None, ConfigLoaderImpl(ConfigSearchPathImpl()))
    Search(config, space, study, OmegaConf.create({}), Functions(job)).run()


@pytest.mark.parametrize("fails", [False, True], ids=["its job completes", "its job fails"])
def test_a_lost_interrupt_stops_the_search_after_its_trial(
    fails: bool, lost_interrupt: Callable[[], None], tmp_path: Path
) -> None:
    """An error may be that of a library in the place of the KeyboardInterrupt, so that trial is retried."""

    def job(number: int) -> float:
        if number == 1:
            lost_interrupt()
            if fails:
                raise RuntimeError("cannot clean up")
        return 0.5

    study = optuna.create_study()
    with pytest.raises(SystemExit) as stopped:
        search(study, tmp_path, job)
    assert stopped.value.code == 130
    states = [trial.state for trial in study.trials]
    if not fails:
        assert states == 2 * [TrialState.COMPLETE]
    else:
        assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
        assert study.trials[1].user_attrs["reason"] == "interrupted"

    search(study, tmp_path, lambda number: 0.5)
    complete = [trial.params for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == 3
    assert study.trials[1].params in complete
