"""The options of a search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler

from stnrot.errors import InputError, check_number
from stnrot.search.storage import EXPECTED


@dataclass(frozen=True)
class SearchConfig:
    """The options of a search, as `hydra.sweeper` sets them.

    Args:
        sampler: returns an Optuna sampler. It is called with `seed=`, or without arguments if it has no option `seed`.
        direction: minimize or maximize. It has to agree with `monitor.mode` of the jobs.
        storage: URL of a database, or path of a journal file.
        study_name: name of the study in the storage.
        n_trials: number of trials of the study, over all processes and starts.
        n_jobs: number of trials that are given to the launcher at once.
        max_failure_rate: the search stops if a larger share of these fails, from 0 to 1.
        params: the search space by option, see `stnrot.search.space.Space`.
        custom_search_space: dotted name of a function of (config, trial) that suggests conditional parameters, or None.
    """

    sampler: Callable[..., BaseSampler]
    direction: str
    storage: str
    study_name: str
    n_trials: int
    n_jobs: int
    max_failure_rate: float
    params: Mapping[str, Any]
    custom_search_space: str | None

    def __post_init__(self) -> None:
        if not callable(self.sampler):
            raise InputError(f"sampler={self.sampler}: expected a choice with a slash, hydra/sweeper/sampler=tpe")
        if not isinstance(self.storage, str) or not self.storage:
            raise InputError(f"storage={self.storage}: {EXPECTED}")
        if not isinstance(self.study_name, str) or not self.study_name:
            raise InputError(f"study_name={self.study_name}: expected a name that is not a number")
        if not isinstance(self.params, Mapping):
            raise InputError(f"params={self.params}: expected a search space by option, as in configs/hparams_search")
        if not (self.custom_search_space is None or isinstance(self.custom_search_space, str)):
            raise InputError(
                f"custom_search_space={self.custom_search_space}: expected the dotted name of a function, or null"
            )
        check_number("n_trials", self.n_trials, 1)
        check_number("n_jobs", self.n_jobs, 1)
        check_number("max_failure_rate", self.max_failure_rate, 0, 1, whole=False)
        if self._seed is not None:
            check_number("sampler.seed", self._seed, 0, 2**31)

    @property
    def _seed(self) -> Any:
        return getattr(self.sampler, "keywords", {}).get("seed")

    def sampler_for(self, trial: int) -> BaseSampler:
        """Build the sampler of a trial. Its draws are a function of the seed and the trial's number alone."""
        try:
            return self.sampler(**({} if self._seed is None else {"seed": self._seed + trial}))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"hydra.sweeper.sampler cannot be built: {error}; expected the options of the sampler's class"
            ) from error
