"""The trials of a study from anyone: refuse what no search writes, before it is used."""

from collections.abc import Iterator, Mapping
from math import isfinite, isnan
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from stnrot.errors import InputError
from stnrot.search.storage import without_password
from stnrot.search.trials import REASON, RETRY_OF, SAME_AS, WORKER

FIXED = "fixed_params"  # Optuna's attribute of a trial that was enqueued: its parameters
PLAIN = (str, int, float, bool, type(None))


def check_trials(study: optuna.Study, location: str) -> None:
    """Check the trials.

    Raises:
        InputError: if one has a number, a value, a time or an attribute that no search writes.
        Exception: of almost any kind, if the storage or the value of a parameter cannot be read.
    """
    # Optuna reads the tables one after the other, so a trial that ends meanwhile is seen in parts: it is read again
    found = _first_wrong(study) and _first_wrong(study)
    if found is not None:
        raise InputError(
            f"{without_password(location)} is not the storage of a search: its trial {found}; expected one that "
            "`train.py -m hparams_search=NAME` has written"
        )


def _first_wrong(study: optuna.Study) -> str | None:
    """Return the number of the first trial that is wrong, and what is wrong with it."""
    for expected, trial in enumerate(sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)):
        wrong = f"number {trial.number}" if trial.number != expected else next(_wrong(trial, study), None)
        if wrong is not None:
            return f"{expected} has {wrong}"
    return None


def _wrong(trial: FrozenTrial, study: optuna.Study) -> Iterator[str]:
    """Yield what is wrong with a trial."""
    if not isinstance(study.study_name, str):
        yield f"the study {study.study_name!r:.80}"
    values = trial.values or []
    if len(values) != len(study.directions) * (trial.state == TrialState.COMPLETE) and trial.state != TrialState.PRUNED:
        yield f"{len(values)} values in the state {trial.state.name}"
    if not all(_is_number(value) and not isnan(value) for value in values):
        yield f"the value {values!r:.80}"
    if not all(_is_number(value) and type(step) is int for step, value in trial.intermediate_values.items()):
        yield "reports that are no numbers"
    if (trial.datetime_start is None and trial.state != TrialState.WAITING) or (
        trial.datetime_complete is None and trial.state.is_finished()
    ):
        yield f"no time in the state {trial.state.name}"
    for name, value in trial.params.items():
        trial.distributions[name].to_internal_repr(value)
        if not isinstance(name, str):
            yield f"the parameter {name!r:.80}"
    for name, value in trial.user_attrs.items():
        if not _is_known(name, value, trial.number):
            yield f"{name}={value!r:.80}"
    fixed = trial.system_attrs.get(FIXED, {})
    if not isinstance(fixed, Mapping) or not all(isinstance(value, PLAIN) for value in fixed.values()):
        yield f"{FIXED}={fixed!r:.80}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_known(name: str, value: Any, number: int) -> bool:
    """Return whether an attribute has the form in which a search writes it. Those of others are not used."""
    if name == WORKER:
        return (
            isinstance(value, Mapping)
            and isinstance(value.get("machine"), str)
            and type(value.get("process")) is int
            and 0 < value["process"] < 2**31  # larger ones are no processes
            and _is_number(value.get("seconds", 0.0))
            and isfinite(value.get("seconds", 0.0))
        )
    if name in (RETRY_OF, SAME_AS):
        return type(value) is int and 0 <= value < number  # so no chain of retries returns to its start
    return name != REASON or isinstance(value, str)
