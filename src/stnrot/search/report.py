"""What a study has found so far: a table, the importances, and the command that repeats the best trial."""

import csv
import shlex
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stnrot.search.pictures import draw
from stnrot.search.study import search_of
from stnrot.search.trials import LEFT_OUT, REASON, RETRY_OF, SAME_AS

STATES = {
    TrialState.COMPLETE: "",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

NOTES = {RETRY_OF: "asked again for trial", SAME_AS: "the same as trial"}


def report(study: optuna.Study, folder: Path) -> None:
    """Print it all; write trials.csv and the pictures into `folder`."""
    trials = [trial for trial in study.trials if LEFT_OUT not in trial.user_attrs]
    trials.sort(key=lambda trial: _place(study, trial))
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    search = search_of(study)
    metric = "value" if search is None else search.metric
    console = Console()
    console.print(_table(study.study_name, trials, names, metric))
    for name, share in _importances(study).items():
        console.print(f"importance of {name}: {share:.2f}", highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "trials.csv", trials, names, metric)
    pictures = draw(study, folder, metric)
    console.print(f"written: {', '.join(str(path) for path in [folder / 'trials.csv', *pictures])}", soft_wrap=True)
    if trials and trials[0].state == TrialState.COMPLETE and search is not None:
        given = [*search.options, *(f"{name}={value}" for name, value in trials[0].params.items())]
        console.print(f"the best, trial {trials[0].number}, again:", highlight=False)
        print(shlex.join(["python", "train.py", *given]))  # in one line, to be copied


def _place(study: optuna.Study, trial: FrozenTrial) -> tuple[int, float, int]:
    """Sort by state and, best first, by value."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    value = trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else 0.0
    return list(STATES).index(trial.state), sign * value, trial.number


def _table(title: str, trials: list[FrozenTrial], names: list[str], metric: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False, collapse_padding=True)
    for name in ("trial", metric, "minutes", *_short(names)):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.6g}"
        params = [_number(trial.params.get(name, "")) for name in names]
        table.add_row(str(trial.number), value, f"{_minutes(trial):.1f}", *params, escape(_remark(trial)))
    return table


def _short(names: list[str]) -> list[str]:
    """Call a parameter by the last part of its name where no other is called so."""
    last = [name.replace("/", ".").rpartition(".")[2] for name in names]
    return [end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _minutes(trial: FrozenTrial) -> float:
    return 0.0 if trial.duration is None else trial.duration.total_seconds() / 60


def _remark(trial: FrozenTrial) -> str:
    attributes = trial.user_attrs
    notes = [STATES[trial.state], attributes.get(REASON)]
    notes += [f"{words} {attributes[key]}" for key, words in NOTES.items() if key in attributes]
    return ": ".join(note for note in notes if note)


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return Optuna's shares, of the parameters that all completed trials have; of too few trials there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few trials
        try:
            return optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError):
            return {}


def _write(path: Path, trials: list[FrozenTrial], names: list[str], metric: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", metric, "minutes", *names, "remark"])
        for trial in trials:
            params = [trial.params.get(name, "") for name in names]
            value = "" if trial.value is None else trial.value
            state = trial.state.name.lower()
            writer.writerow([trial.number, state, value, f"{_minutes(trial):.3f}", *params, _remark(trial)])
