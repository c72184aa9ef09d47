"""The Hydra plugin that searches for hyperparameters with Optuna.

Hydra imports every module of `hydra_plugins` in every program, so this one imports stnrot and Optuna only when a search
starts.
"""

from collections.abc import Callable
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Run the trials of a study that several processes can share and that survives each of them.

    `stnrot.search.config.SearchConfig` describes and checks the arguments. Their names and values are those of Hydra's
    own plugin, hydra-optuna-sweeper, which as of Hydra 1.3 needs an Optuna below 3. When a release supports the Optuna
    of pyproject.toml, install it in place of this file and configs/hydra/, and move the values there into
    configs/hparams_search/_search.yaml. If it does not pass `trial=` to its jobs and does not retry interrupted trials,
    pruning (train.py), `hydra.sweep.subdir` and the resumed searches of docs/how-to/sweep.md end with this plugin.
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
        from stnrot.search.config import SearchConfig

        self.search = SearchConfig(
            sampler=sampler,
            direction=direction,
            storage=storage,
            study_name=study_name,
            n_trials=n_trials,
            n_jobs=n_jobs,
            max_failure_rate=max_failure_rate,
            params=params or {},
            custom_search_space=custom_search_space,
        )

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has all of them.

        Args:
            arguments: overrides of the command line.
        """
        from stnrot.runs.postponed_imports import import_lightning

        import_lightning()
        from stnrot.search.loop import Search
        from stnrot.search.setup import prepare_study
        from stnrot.search.space import Space

        loader = self.hydra_context.config_loader
        space = Space(self.search.params, arguments, self.search.custom_search_space, loader)
        study = prepare_study(self.search, space, self.config, loader)
        Search(self.search, space, study, self.config, self.launcher).run()
