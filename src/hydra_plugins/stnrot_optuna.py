"""The plugin that Hydra finds; it imports this file in every job, so Optuna, which takes a second, comes later."""

from collections.abc import Callable
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from stnrot.errors import InputError, check_number


class OptunaSweeper(Sweeper):
    """Search for hyperparameters with Optuna, in a study that several processes share and that survives them.

    The options are those of Hydra's own plugin, but for the sampler, which is made anew for each trial.

    Args:
        sampler: called with the option `seed`, or with none if its configuration has no seed.
        direction: minimize or maximize, as `monitor.mode` of the job.
        storage: URL of a database, or path of a journal file.
        study_name: of the study in it.
        n_trials: of the study, over all processes and interruptions.
        n_jobs: trials that are given to the launcher at once.
        max_failure_rate: share of failed trials among these above which the search stops.
        params: the space; see `Space`.
        custom_search_space: dotted name of a function of (config, trial) that suggests conditional parameters.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self,
        sampler: Callable[..., Any],
        direction: str,
        storage: str,
        study_name: str,
        n_trials: int,
        n_jobs: int,
        max_failure_rate: float,
        params: dict[str, Any] | None,
        custom_search_space: str | None,
    ) -> None:
        check_number("hydra.sweeper.n_trials", n_trials, 1)
        check_number("hydra.sweeper.n_jobs", n_jobs, 1)
        check_number("hydra.sweeper.max_failure_rate", max_failure_rate, 0, 1, whole=False)
        self.sampler, self.direction, self.storage, self.study_name = sampler, direction, storage, study_name
        self.n_trials, self.n_jobs, self.max_failure_rate = n_trials, n_jobs, max_failure_rate
        self.params, self.custom_search_space = params or {}, custom_search_space

    def sampler_of(self, trial: int) -> Any:
        """Build the sampler of a trial: what it draws is a function of the seed and the number."""
        seed = getattr(self.sampler, "keywords", {}).get("seed")
        if seed is not None:
            check_number("hydra.sweeper.sampler.seed", seed, 0, 2**31)
        try:
            return self.sampler(**({} if seed is None else {"seed": seed + trial}))
        except (TypeError, ValueError) as error:
            raise InputError(f"hydra.sweeper.sampler cannot be built: {error}") from error

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Get the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Work on the study until it has its trials."""
        from stnrot.search.loop import Search
        from stnrot.search.setup import prepare_study
        from stnrot.search.space import Space

        loader = self.hydra_context.config_loader
        space = Space(self.params, arguments, self.custom_search_space, loader)
        Search(self, space, prepare_study(self, space)).run()
