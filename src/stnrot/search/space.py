"""The search space: Hydra overrides, translated to Optuna's distributions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.utils import get_method
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from stnrot.errors import InputError
from stnrot.runs.overrides import as_override


class Space:
    """The searched and the fixed options of a search.

    They are given in `hydra.sweeper.params`. Overrides on the command line replace them or are added.

    Args:
        params: `choice(...)`, `range(...)`, `interval(...)` or a fixed value, by option.
        arguments: overrides of the command line.
        custom: dotted name of a function of (config, trial) that suggests conditional parameters, or None.
        loader: lists the configurations that `glob(...)` matches.

    Raises:
        InputError: if nothing is searched or an override is wrong.
    """

    def __init__(
        self, params: Mapping[str, Any], arguments: list[str], custom: str | None, loader: ConfigLoader
    ) -> None:
        self.custom = custom
        self._extend = None if custom is None else _function(custom)
        self.searched: dict[str, BaseDistribution] = {}
        fixed: dict[str, str] = {}
        lines = [f"{name}={value}" for name, value in params.items()] + arguments
        for override in OverridesParser.create(loader).parse_overrides(lines):
            key = override.get_key_element()
            self.searched.pop(key, None)
            fixed.pop(key, None)
            if override.is_sweep_override():
                self.searched[key] = _distribution(override)
            else:
                fixed[key] = str(override.input_line)
        self.fixed = list(fixed.values())
        self._fixed_keys = fixed.keys()
        if not self.searched:
            raise InputError(
                "nothing to search: expected parameters in hydra.sweeper.params, see configs/hparams_search"
            )

    def suggest(self, config: DictConfig, trial: Trial) -> list[str]:
        """Draw the parameters of a trial; return its overrides, with the fixed ones."""
        for name, distribution in self.searched.items():
            _suggest(trial, name, distribution)
        if self._extend is not None:
            self._extend(config, trial)
        for name in trial.params:
            if name in self._fixed_keys:
                raise InputError(
                    f"{name} is both fixed and searched by {self.custom}: expected one of the two; "
                    "leave out the option, or set hydra.sweeper.custom_search_space=null"
                )
        return self.fixed + [as_override(name, value) for name, value in trial.params.items()]

    def examples(self, config: DictConfig) -> Iterator[list[str]]:
        """Yield the overrides of trials that together cover every choice."""
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.enqueue_trial({})
        for name, distribution in self.searched.items():
            if isinstance(distribution, CategoricalDistribution):
                for choice in distribution.choices:
                    study.enqueue_trial({name: choice})
        while study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            yield self.suggest(config, study.ask())

    def description(self) -> dict[str, str]:
        """Return the space as text, by option. Equal spaces have equal descriptions."""
        described = {name: distribution_to_json(distribution) for name, distribution in self.searched.items()}
        return described if self.custom is None else described | {"custom_search_space": self.custom}


def _function(name: str) -> Callable[[DictConfig, Trial], None]:
    try:
        return get_method(name)
    except (ImportError, ValueError) as error:
        raise InputError(f"hydra.sweeper.custom_search_space={name}: expected the dotted name of a function") from error


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if override.is_interval_sweep():
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind = IntDistribution if whole else FloatDistribution
        return _built(override, kind, value.start, value.end, log="log" in value.tags)
    if override.is_range_sweep() and not value.shuffle:  # `stop` is included, as in hydra-optuna-sweeper
        whole = all(isinstance(number, int) for number in (value.start, value.stop, value.step))
        kind = IntDistribution if whole else FloatDistribution
        return _built(override, kind, value.start, value.stop, step=value.step)
    return _built(override, CategoricalDistribution, list(override.sweep_iterator(transformer=Transformer.encode)))


def _built(override: Override, kind: Any, *arguments: Any, **options: Any) -> BaseDistribution:
    try:
        return kind(*arguments, **options)
    except (ValueError, TypeError) as error:
        raise InputError(f"{override.input_line}: {error}; see the examples in configs/hparams_search") from error
