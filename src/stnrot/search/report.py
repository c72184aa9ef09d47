"""The report on a study: table of trials, parameter importances, and the command that repeats the best trial."""

import shlex
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from stnrot.errors import InputError
from stnrot.printed import printable
from stnrot.runs.overrides import as_override
from stnrot.runs.tables.columns import decimals, print_table, short_names, write_table
from stnrot.search.figures import save_figures
from stnrot.search.heartbeat import is_dead, machine
from stnrot.search.study import spec_of
from stnrot.search.trials import LEFT_OUT, REASON, RETRY_OF, SAME_AS, WORKER

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

NOTES = {RETRY_OF: "retry of trial", SAME_AS: "same parameters as trial"}


def report(study: optuna.Study, folder: Path) -> None:
    """Write trials.csv, history.png and parallel.png into `folder`; print the table and the rest of the report."""
    if len(study.directions) != 1:
        raise InputError(
            f"the study {study.study_name} has {len(study.directions)} metrics: expected one, as the study of a search "
            "has"
        )
    trials = [trial for trial in study.trials if LEFT_OUT not in trial.user_attrs]
    trials.sort(key=lambda trial: _rank(study, trial))
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    spec = spec_of(study)
    metric = "value" if spec is None else spec.metric
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "trials.csv", trials, names, metric)
        figures = save_figures(study, folder, metric)
    except OSError as error:
        raise InputError(f"cannot write the report to {folder}: {error}; choose another folder with --out") from error
    _print(study.study_name, trials, names, metric)
    for name, share in _importances(study).items():
        print(printable(f"importance of {name}: {share:.2f}"))
    print(printable(f"written: {', '.join(str(path) for path in [folder / 'trials.csv', *figures])}"))
    if trials and trials[0].state == TrialState.COMPLETE and spec is not None:
        overrides = [*spec.options, *(as_override(name, value) for name, value in trials[0].params.items())]
        print(f"to repeat the best trial, {trials[0].number}:")
        print(printable(shlex.join(["python", "train.py", *overrides])))  # one line, to copy


def _rank(study: optuna.Study, trial: FrozenTrial) -> tuple[int, float, int]:
    """Return the sort key of a trial: state, then value with the best first, then number."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    value = trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else 0.0
    return list(STATES).index(trial.state), sign * value, trial.number


def _print(title: str, trials: list[FrozenTrial], names: list[str], metric: str) -> None:
    """Print the table and, below it, the remarks. A trial without a value shows its state instead."""
    values = {t.number: t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None}
    digits = decimals(values.values())
    columns = {
        "trial": [str(trial.number) for trial in trials],
        metric: [f"{values[t.number]:.{digits}f}" if t.number in values else STATES[t.state] for t in trials],
        "minutes": [f"{_minutes(trial):.1f}" for trial in trials],
    }
    for short, name in zip(short_names(names), names, strict=True):
        columns[short] = [_number(trial.params.get(name, "")) for trial in trials]
    print_table(title, columns, keys=1)
    for trial in trials:
        if remark := _remark(trial):
            print(printable(f"trial {trial.number}: {remark}"))


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _minutes(trial: FrozenTrial) -> float:
    """Return the duration of a trial, up to now if it is running.

    If two clocks were needed for that, because its process died or runs on another machine, the duration up to its last
    heartbeat is returned.
    """
    if trial.datetime_start is None:
        return 0.0
    worker = trial.user_attrs.get(WORKER, {})
    elsewhere = trial.state == TrialState.RUNNING and worker.get("machine") != machine()
    died = trial.state == TrialState.FAIL and REASON not in trial.user_attrs
    if (elsewhere or died) and "seconds" in worker:
        return worker["seconds"] / 60
    seconds = ((trial.datetime_complete or datetime.now()) - trial.datetime_start).total_seconds()
    return max(0.0, seconds) / 60  # a trial of an earlier version may have two clocks


def _remark(trial: FrozenTrial) -> str:
    attributes = trial.user_attrs
    notes = [f"{words} {attributes[key]}" for key, words in NOTES.items() if key in attributes]
    if trial.state == TrialState.RUNNING and is_dead(attributes.get(WORKER)):
        notes.append("its process died")
    if trial.state == TrialState.FAIL:
        notes.append(attributes.get(REASON, "its process died"))
    return "; ".join(notes)


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return the importances of the parameters that all completed trials have; none if there are too few trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about few trials
        try:
            return optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError):
            return {}


def _write(path: Path, trials: list[FrozenTrial], names: list[str], metric: str) -> None:
    columns: dict[str, list[Any]] = {
        "trial": [trial.number for trial in trials],
        "state": [STATES[trial.state] for trial in trials],
        metric: ["" if trial.value is None else trial.value for trial in trials],
        "minutes": [f"{_minutes(trial):.3f}" for trial in trials],
    }
    columns |= {name: [trial.params.get(name, "") for trial in trials] for name in names}
    write_table(path, columns | {"remark": [_remark(trial) for trial in trials]})
