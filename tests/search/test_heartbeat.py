"""Heartbeats of running trials, and retries of stale ones, in a study in memory."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.trial import Trial, TrialState, create_trial

from stnrot.search import heartbeat
from stnrot.search.heartbeat import Heartbeat, StaleTrials, is_dead
from stnrot.search.study import SearchSpec, join_study
from stnrot.search.trials import counted


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def running_trial(study: optuna.Study, **worker: object) -> int:
    """Ask for a trial and send one heartbeat, as the process of `worker` would; return the trial's number."""
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    here = {"machine": heartbeat.machine(), "process": os.getpid(), "alive": time.time()}
    trial.set_user_attr("worker", here | worker)
    return trial.number


def beats(study: optuna.Study, number: int) -> None:
    """Send a heartbeat for a running trial, as its process would."""
    stored = study.trials[number]
    worker = stored.user_attrs["worker"]
    Trial(study, stored._trial_id).set_user_attr("worker", worker | {"alive": worker["alive"] + 15})


def dead_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_stale_trials_are_distinguished_from_running_ones(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 0.05)
    running_trial(study)
    running_trial(study, process=dead_process())
    running_trial(study, machine="another", process=dead_process())
    running_trial(study, machine="another", alive=time.time() - 1000)
    study.ask()  # no heartbeat yet
    study.add_trial(create_trial(state=TrialState.WAITING))
    stale = StaleTrials(study)
    assert [trial.number for trial in stale.find()] == [1]
    for _ in range(3):
        time.sleep(0.1)
        for number in (0, 2):
            beats(study, number)
        found = stale.find()
    assert [trial.number for trial in found] == [1, 3, 4]
    beats(study, 3)  # the storage was out of reach for a while
    assert 3 not in [trial.number for trial in stale.find()]
    assert [trial.number for trial in StaleTrials(study).find()] == [1]  # a new reader has to wait


OTHER_MACHINE = """
import platform, sys, time

clock, offset = time.time, float(sys.argv[2])
time.time = lambda: clock() + offset
platform.node = lambda: "another"

from stnrot.search.heartbeat import beat
from stnrot.search.study import find_study

trial = find_study(sys.argv[1], None).ask()
trial.suggest_float("x", 0, 1)
start = time.monotonic()
for _ in sys.stdin:  # one heartbeat for each line
    beat(trial, time.monotonic() - start)
    print(time.time(), flush=True)
"""


@pytest.mark.ci
@pytest.mark.parametrize("offset", [-600, 600])
@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_a_machine_whose_clock_differs_by_ten_minutes(
    name: str, offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process sends heartbeats with the wrong time, in the wrong time zone, and is killed."""
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 0.2)
    location = f"sqlite:///{tmp_path / name}" if name.endswith("db") else str(tmp_path / name)
    study = join_study(location, "one", SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, []))
    stale = StaleTrials(study)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_MACHINE, location, str(offset)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TZ": f"TST{offset // 60:+d}"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write("\n")
            process.stdin.flush()
            assert abs(float(process.stdout.readline()) - time.time() - offset) < 300
            stale.retry()
            assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
            time.sleep(0.3)
        process.kill()
    stale.retry()
    killed, retry = study.trials
    assert (killed.state, retry.state) == (TrialState.FAIL, TrialState.WAITING)
    assert study.ask().suggest_float("x", 0, 1) == killed.params["x"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc only the grace period tells")
def test_the_trial_of_a_zombie_is_stale(study: optuna.Study) -> None:
    """A container whose first process does not wait for others leaves zombies after kill -9."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    running_trial(study, process=ended.pid)
    assert is_dead(study.trials[0].user_attrs["worker"])
    ended.wait()


def test_a_stale_trial_is_retried_once(study: optuna.Study) -> None:
    running_trial(study, process=dead_process())
    for _ in range(2):
        StaleTrials(study).retry()
    stale, retry = study.trials
    assert stale.state == TrialState.FAIL
    assert [trial.number for trial in counted(study.trials)] == [1]
    with Heartbeat(study) as running:
        trial = study.ask()
        running.register(trial)
        assert trial.number == retry.number
        assert trial.suggest_float("x", 0, 1) == stale.params["x"]
        running.finish(trial, TrialState.COMPLETE, value=1.0)
    assert len(study.trials) == 2
    assert counted(study.trials)[0].value == 1.0


def test_a_retry_that_dies_before_it_draws_its_parameters(study: optuna.Study) -> None:
    number = running_trial(study, process=dead_process())
    StaleTrials(study).retry()
    study.ask().set_user_attr("worker", study.trials[number].user_attrs["worker"])
    StaleTrials(study).retry()
    assert study.ask().suggest_float("x", 0, 1) == study.trials[number].params["x"]


def test_a_trial_whose_process_dies_three_times_has_failed(study: optuna.Study) -> None:
    for _ in range(3):
        running_trial(study, process=dead_process())
        StaleTrials(study).retry()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3
    assert len({trial.params["x"] for trial in study.trials}) == 1
    (last,) = counted(study.trials)
    assert last.number == 2


def test_a_crash_between_enqueueing_and_failing(study: optuna.Study) -> None:
    number = running_trial(study, process=dead_process())
    study.enqueue_trial(study.trials[number].params, user_attrs={"retry_of": number})
    StaleTrials(study).retry()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_two_retries_of_a_trial_count_once(study: optuna.Study) -> None:
    """Processes without a common lock may both enqueue a retry."""
    number = running_trial(study, process=dead_process())
    for _ in range(2):
        study.enqueue_trial({"x": 0.5}, user_attrs={"retry_of": number})
    assert [trial.number for trial in counted(study.trials)] == [1]
    study.tell(number, 1.0)  # the process was alive after all
    assert [trial.number for trial in counted(study.trials)] == [0]


def test_a_running_trial_is_enqueued_again_when_its_process_is_interrupted(study: optuna.Study) -> None:
    def interrupted() -> None:
        with Heartbeat(study) as running:
            running.register(study.ask())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].user_attrs["reason"] == "interrupted"


def test_interrupts_do_not_count_as_deaths(study: optuna.Study) -> None:
    for _ in range(4):
        with suppress(KeyboardInterrupt), Heartbeat(study) as running:
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            running.register(trial)
            raise KeyboardInterrupt
    assert running_trial(study, process=dead_process()) == 4
    StaleTrials(study).retry()
    assert study.ask().suggest_float("x", 0, 1) == study.trials[0].params["x"]


def test_heartbeats_repeat(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    with Heartbeat(study) as running:
        trial = study.ask()
        running.register(trial)
        first = study.trials[0].user_attrs["worker"]["alive"]
        deadline = time.monotonic() + 30
        while study.trials[0].user_attrs["worker"]["alive"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert study.trials[0].user_attrs["worker"]["alive"] > first
        running.finish(trial, TrialState.PRUNED)
