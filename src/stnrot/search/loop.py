"""The loop of a search: ask for trials, launch their jobs, record the outcomes."""

import logging
import math
import shlex
import time
from collections.abc import Sequence
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, Trial, TrialState

from stnrot.errors import InputError
from stnrot.runs.command_line import one_line
from stnrot.runs.stop_signals import REQUEST, stops_at_signals
from stnrot.search.config import SearchConfig
from stnrot.search.heartbeat import Heartbeat, StaleTrials
from stnrot.search.space import Space
from stnrot.search.storage import lock_of, without_password
from stnrot.search.trials import LEFT_OUT, REASON, SAME_AS, counted

log = logging.getLogger("search")
POLL = 1.0  # seconds between two readings of the trials of other processes


class Search:
    """Launch trials until the study has `n_trials`.

    A job gets the number of its trial as `trial=`. The draws of a trial are a function of the sampler's seed and that
    number: a resumed search equals an uninterrupted one, and processes that share a study draw different parameters.

    Args:
        search: the options of the search.
        space: the search space.
        study: the study of the search, see `prepare_study`.
        job: the configuration of the jobs, without the overrides of a trial.
        launcher: Hydra's launcher, which runs the jobs.
    """

    def __init__(
        self, search: SearchConfig, space: Space, study: optuna.Study, job: DictConfig, launcher: Launcher
    ) -> None:
        self.search, self.space, self.study, self.job, self.launcher = search, space, study, job, launcher
        self.stale = StaleTrials(study)

    def run(self) -> None:
        """Launch batches of trials until the study is complete.

        Ctrl-C and SIGTERM exit with 130 and 143. The trials that they interrupt are enqueued again.
        """
        storage = without_password(self.search.storage)
        log.info("%d trials; to see them: stnrot study %s", self.search.n_trials, shlex.quote(storage))
        with stops_at_signals(said=_say_how_to_resume), Heartbeat(self.study) as heartbeat:
            while batch := self._next_batch(heartbeat):
                self._launch(heartbeat, batch)

    def _counted(self) -> list[FrozenTrial]:
        return counted(self.study.get_trials(deepcopy=False))

    def _next_batch(self, heartbeat: Heartbeat) -> list[Trial]:
        """Return the next trials; none if the study is complete.

        While only trials of other processes are running, wait: one of these may become stale, and is retried here.
        """
        waiting = False
        while True:
            REQUEST.check()
            batch: list[Trial] = []
            with lock_of(self.search.storage):
                self.stale.retry()
                while len(batch) < self.search.n_jobs and self._started() < self.search.n_trials:
                    batch += self._ask(heartbeat)
            running = [str(trial.number) for trial in self._counted() if trial.state == TrialState.RUNNING]
            if batch or not running:
                return batch
            if not waiting:
                log.info("all trials have started; waiting for trial %s of other processes", ", ".join(running))
                waiting = True
            time.sleep(POLL)

    def _started(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._counted())

    def _ask(self, heartbeat: Heartbeat) -> list[Trial]:
        """Ask for one trial; return none if processes without a common lock have completed the study meanwhile."""
        trial = self.study.ask()
        heartbeat.register(trial)
        if trial.number in [other.number for other in self._counted()][: self.search.n_trials]:
            return [trial]
        heartbeat.finish(trial, TrialState.FAIL, attributes={LEFT_OUT: "several processes started the last trial"})
        return []

    def _launch(self, heartbeat: Heartbeat, batch: list[Trial]) -> None:
        """Draw the parameters of the trials, launch their jobs and record the outcomes.

        A trial with the parameters of an earlier one is not run: it copies the outcome.
        """
        jobs: dict[Trial, list[str]] = {}
        repeats: dict[Trial, int] = {}
        for trial in batch:
            self.study.sampler = self.search.sampler_for(trial.number)
            overrides = self.space.suggest(self.job, trial)
            earlier = self._same_params(trial)
            if earlier is None:
                jobs[trial] = [*overrides, f"trial={trial.number}"]
            else:
                repeats[trial] = earlier
        if jobs:
            returns = self._run_jobs(list(jobs.values()), next(iter(jobs)).number)
            failures = [self._record(heartbeat, trial, job) for trial, job in zip(jobs, returns, strict=True)]
            reasons = [reason for reason in failures if reason is not None]
            if len(reasons) > self.search.max_failure_rate * len(jobs):
                raise InputError(
                    f"{len(reasons)} of {len(jobs)} trials failed, more than hydra.sweeper.max_failure_rate="
                    f"{self.search.max_failure_rate} of them: {reasons[-1]}"
                )
        for trial, number in repeats.items():
            self._copy_outcome(heartbeat, trial, number)

    def _run_jobs(self, jobs: list[list[str]], number: int) -> Sequence[JobReturn]:
        """Launch the jobs. If the launcher fails, for example because a job's process died, all of them have failed."""
        try:
            return self.launcher.launch(jobs, initial_job_idx=number)
        except Exception as error:
            return [JobReturn(status=JobStatus.FAILED, _return_value=error) for _ in jobs]

    def _record(self, heartbeat: Heartbeat, trial: Trial, job: JobReturn) -> str | None:
        """Record the outcome of a job; return the reason if it failed."""
        result, reason = job._return_value, None  # the property return_value would print and raise
        if isinstance(result, optuna.TrialPruned):
            recorded = heartbeat.finish(trial, TrialState.PRUNED)
            log.info("trial %d: pruned", trial.number)
        elif job.status == JobStatus.COMPLETED and math.isfinite(result):
            recorded = heartbeat.finish(trial, TrialState.COMPLETE, value=float(result))
            log.info("trial %d: %.6g", trial.number, result)
        else:
            REQUEST.check()  # the signal may be the cause
            error = result if isinstance(result, Exception) else InputError(f"the metric is {result}")
            line = one_line(error)
            reason = line or " ".join(f"{type(error).__name__}: {error}".split())
            recorded = heartbeat.finish(trial, TrialState.FAIL, attributes={REASON: reason})
            log.error("trial %d failed: %s", trial.number, reason, exc_info=None if line else error)
        if not recorded:
            log.warning("trial %d had no heartbeat for long, so another process retries it", trial.number)
        return reason

    def _same_params(self, trial: Trial) -> int | None:
        """Return the number of the first earlier trial with the same parameters."""
        return next((t.number for t in self._counted() if t.number < trial.number and t.params == trial.params), None)

    def _copy_outcome(self, heartbeat: Heartbeat, trial: Trial, number: int) -> None:
        """Wait until the trial `number`, which has the same parameters, has finished, and copy its outcome."""
        while not (earlier := self.study.get_trials(deepcopy=False)[number]).state.is_finished():
            time.sleep(POLL)
            with lock_of(self.search.storage):
                self.stale.retry()
        attributes: dict[str, Any] = {SAME_AS: number}
        if earlier.state == TrialState.FAIL and number not in [other.number for other in self._counted()]:
            attributes = {LEFT_OUT: f"same parameters as trial {number}, which was stale and is retried"}
        elif REASON in earlier.user_attrs:
            attributes[REASON] = earlier.user_attrs[REASON]
        for step, reported in earlier.intermediate_values.items():
            trial.report(reported, step)
        value = earlier.value if earlier.state == TrialState.COMPLETE else None
        heartbeat.finish(trial, earlier.state, value, attributes)
        log.info("trial %d: same parameters as trial %d", trial.number, number)


def _say_how_to_resume() -> None:
    log.info("stopped; the same command resumes the search")
