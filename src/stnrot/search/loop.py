"""The loop of a search: ask, launch, tell."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.stnrot_optuna import OptunaSweeper
from stnrot.errors import InputError
from stnrot.runs.command_line import one_line
from stnrot.search.heartbeat import Heartbeat
from stnrot.search.space import Space
from stnrot.search.stale_trials import retry_stale_trials
from stnrot.search.storage import lock_of, shown
from stnrot.search.trials import LEFT_OUT, REASON, SAME_AS, counted

log = logging.getLogger("search")
POLL = 1.0  # seconds between two looks at the trials of other processes


class Search:
    """Ask the study for trials and launch them until it has all.

    A job gets its number as `trial=`. What a trial draws is a function of the sampler's seed and that number: a
    continued search is the search, and several processes draw differently.
    """

    def __init__(self, sweeper: OptunaSweeper, space: Space, study: optuna.Study) -> None:
        self.sweeper, self.space, self.study = sweeper, space, study

    def run(self) -> None:
        """Work until nothing is left to ask."""
        log.info("%d trials; look at them: stnrot study %s", self.sweeper.n_trials, shown(self.sweeper.storage))
        with Heartbeat(self.study) as work:
            while batch := self._next(work):
                self._launch(work, batch)

    def _trials(self) -> list[FrozenTrial]:
        return counted(self.study.get_trials(deepcopy=False))

    def _next(self, work: Heartbeat) -> list[Trial]:
        """Take the next trials; where only those of other processes are left, wait: they may yet be orphaned."""
        waiting = False
        while True:
            batch: list[Trial] = []
            with lock_of(self.sweeper.storage):
                retry_stale_trials(self.study)
                while len(batch) < self.sweeper.n_jobs and self._asked() < self.sweeper.n_trials:
                    batch += self._ask(work)
            running = [str(trial.number) for trial in self._trials() if trial.state == TrialState.RUNNING]
            if batch or not running:
                return batch
            if not waiting:
                log.info("nothing is left to ask; waiting for trial %s of other processes", ", ".join(running))
                waiting = True
            time.sleep(POLL)

    def _asked(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    def _ask(self, work: Heartbeat) -> list[Trial]:
        """Ask for one trial; return none if other processes, which share no lock, have filled the study meanwhile."""
        trial = self.study.ask()
        work.take(trial)
        if trial.number in [other.number for other in self._trials()][: self.sweeper.n_trials]:
            return [trial]
        work.end(trial, TrialState.FAIL, attributes={LEFT_OUT: "asked by several processes at once"})
        return []

    def _launch(self, work: Heartbeat, batch: list[Trial]) -> None:
        """Draw the parameters, launch the jobs and tell their outcomes; what was tried before is not run again."""
        jobs: dict[Trial, list[str]] = {}
        repeats: dict[Trial, int] = {}
        for trial in batch:
            self.study.sampler = self.sweeper.sampler_of(trial.number)
            overrides = self.space.suggest(self.sweeper.config, trial)
            twin = self._twin(trial)
            if twin is None:
                jobs[trial] = [*overrides, f"trial={trial.number}"]
            else:
                repeats[trial] = twin
        if jobs:
            returns = self._returns(list(jobs.values()), next(iter(jobs)).number)
            failures = [self._tell(work, trial, job) for trial, job in zip(jobs, returns, strict=True)]
            reasons = [reason for reason in failures if reason is not None]
            if len(reasons) > self.sweeper.max_failure_rate * len(jobs):
                raise InputError(
                    f"{len(reasons)} of {len(jobs)} trials failed, more than hydra.sweeper.max_failure_rate="
                    f"{self.sweeper.max_failure_rate} of them: {reasons[-1]}"
                )
        for trial, number in repeats.items():
            self._copy(work, trial, number)

    def _returns(self, jobs: list[list[str]], number: int) -> Sequence[JobReturn]:
        """Launch the jobs; all have failed if the launcher has, such as by the death of a job's process."""
        try:
            return self.sweeper.launcher.launch(jobs, initial_job_idx=number)
        except Exception as error:
            return [JobReturn(status=JobStatus.FAILED, _return_value=error) for _ in jobs]

    def _tell(self, work: Heartbeat, trial: Trial, job: JobReturn) -> str | None:
        """Tell how a job ended; return the reason if it failed."""
        result, reason = job._return_value, None  # the property prints and raises
        if isinstance(result, optuna.TrialPruned):
            told = work.end(trial, TrialState.PRUNED)
            log.info("trial %d: pruned", trial.number)
        elif job.status == JobStatus.COMPLETED and math.isfinite(result):
            told = work.end(trial, TrialState.COMPLETE, value=float(result))
            log.info("trial %d: %.6g", trial.number, result)
        else:
            error = result if isinstance(result, Exception) else InputError(f"the metric is {result}")
            known = one_line(error)
            reason = known or " ".join(f"{type(error).__name__}: {error}".split())
            told = work.end(trial, TrialState.FAIL, attributes={REASON: reason})
            log.error("trial %d failed: %s", trial.number, reason, exc_info=None if known else error)
        if not told:
            log.warning("trial %d had given no sign of life for long and was asked again elsewhere", trial.number)
        return reason

    def _twin(self, trial: Trial) -> int | None:
        """Return the number of the trial before this one that has the same parameters."""
        return next((t.number for t in self._trials() if t.number < trial.number and t.params == trial.params), None)

    def _copy(self, work: Heartbeat, trial: Trial, number: int) -> None:
        """Give a trial the outcome of the one with the same parameters, once that is there."""
        while not (twin := self.study.get_trials(deepcopy=False)[number]).state.is_finished():
            time.sleep(POLL)
            with lock_of(self.sweeper.storage):
                retry_stale_trials(self.study)
        attributes: dict[str, Any] = {SAME_AS: number}
        if twin.state == TrialState.FAIL and number not in [other.number for other in self._trials()]:
            attributes = {LEFT_OUT: f"the same as trial {number}, which was orphaned and is asked again"}
        elif REASON in twin.user_attrs:
            attributes[REASON] = twin.user_attrs[REASON]
        for step, value in twin.intermediate_values.items():
            trial.report(value, step)
        work.end(trial, twin.state, twin.value if twin.state == TrialState.COMPLETE else None, attributes)
        log.info("trial %d: the same as trial %d", trial.number, number)
