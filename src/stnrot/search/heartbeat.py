"""The trials that this process has."""

from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from stnrot.search.signs_of_life import BEAT, beat
from stnrot.search.stale_trials import enqueue_retry
from stnrot.search.trials import REASON, finish


class Heartbeat:
    """They show signs of life until the `with` ends; those that are left by then, at an interrupt, are asked again."""

    def __init__(self, study: optuna.Study) -> None:
        self.study, self.trials = study, dict[int, Trial]()
        self._ended = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        for number, trial in self.trials.items():
            if self.study.trials[number].state == TrialState.RUNNING:
                enqueue_retry(self.study, trial, {REASON: "interrupted"})

    def take(self, trial: Trial) -> None:
        """Sign the trial."""
        beat(trial)
        self.trials[trial.number] = trial

    def end(
        self, trial: Trial, state: TrialState, value: float | None = None, attributes: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell how it ended, as `finish` does."""
        told = finish(self.study, trial, state, value, attributes)
        self.trials.pop(trial.number)
        return told

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for trial in list(self.trials.values()):
                with suppress(optuna.exceptions.OptunaError, OSError):  # it has finished, or the next time will do
                    beat(trial)
