"""A database that is out of reach: SQLite, locked by another connection, in the place of a server that is gone."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy import event, text

from stnrot.errors import InputError
from stnrot.search import reconnect
from stnrot.search.heartbeat import Heartbeat, StaleTrials, beat
from stnrot.search.reconnect import ServerStorage, last_failure, no_waiting, wait_for
from stnrot.search.trials import finish


@pytest.fixture(autouse=True)
def _forget_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect._Process, "has_given_up", False)
    monkeypatch.setattr(reconnect._Process, "last_failure", -1e9)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty database of Optuna: to create its tables takes longest."""
    path = tmp_path_factory.mktemp("database") / "study.db"
    ServerStorage(f"sqlite:///{path}")
    return path


@pytest.fixture
def storage(database: Path, tmp_path: Path) -> ServerStorage:
    shutil.copy(database, tmp_path)
    return ServerStorage(f"sqlite:///{tmp_path}/study.db?timeout=0.001")


@pytest.fixture
def study(storage: ServerStorage) -> optuna.Study:
    return optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))


@pytest.fixture
def locked(study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], object]]:
    """Return a function that locks the database until the next pause."""
    with closing(sqlite3.connect(tmp_path / "study.db")) as other:
        monkeypatch.setattr(time, "sleep", lambda seconds: other.rollback())
        yield lambda: other.execute("BEGIN EXCLUSIVE")


def test_every_call_waits(study: optuna.Study, locked: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    def after_a_pause(call: Callable[[], Any]) -> Any:
        caplog.clear()
        locked()
        result = call()
        words = [record.getMessage() for record in caplog.records if record.name == "search"]
        assert words[0] == "the database is out of reach, waiting up to 10 minutes: database is locked"
        assert "answers again after" in words[1]
        assert len(words) == 2
        return result

    trial = after_a_pause(study.ask)
    x = after_a_pause(lambda: trial.suggest_float("x", 0, 1))
    after_a_pause(lambda: trial.report(0.5, 3))
    after_a_pause(lambda: trial.set_user_attr("a", 1))
    after_a_pause(lambda: study.set_user_attr("b", 2))
    after_a_pause(lambda: study.tell(trial.number, 1.5))
    assert after_a_pause(lambda: study.user_attrs) == {"b": 2}
    (done,) = after_a_pause(study.get_trials)
    assert (done.state, done.value, done.params, done.user_attrs) == (TrialState.COMPLETE, 1.5, {"x": x}, {"a": 1})
    assert done.intermediate_values == {3: 0.5}


def test_a_lost_answer(storage: ServerStorage, study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is written and committed, but the answer is lost: it is not written twice."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    lost = list[bool]()  # of each commit that has written

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            super().commit()
            if self.total_changes:
                lost.append(not lost or not lost[-1])
                if lost[-1]:
                    raise sqlite3.OperationalError("server closed the connection unexpectedly")

    @event.listens_for(storage.engine, "do_connect")
    def connect(dialect: object, record: object, arguments: object, options: dict[str, object]) -> None:
        options["factory"] = Connection

    trial = study.ask()
    assert lost == [True, False]  # another trial was created
    x = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 3)
    assert lost[2:] == [True, False]
    trial.set_user_attr("a", 1)
    assert finish(study, trial, TrialState.COMPLETE, 1.5)
    assert lost[4:] == [True, False, True]
    orphan, done = study.trials
    assert (done.state, done.value, done.params, done.user_attrs) == (TrialState.COMPLETE, 1.5, {"x": x}, {"a": 1})
    assert done.intermediate_values == {3: 0.5}
    assert orphan.state == TrialState.RUNNING  # without a heartbeat: `StaleTrials` retries it


def test_another_outcome_of_a_finished_trial_is_refused(storage: ServerStorage, study: optuna.Study) -> None:
    study.tell(study.ask(), 1.5)
    assert storage.set_trial_state_values(1, TrialState.COMPLETE, [1.5])
    for state, values in ((TrialState.COMPLETE, [2.0]), (TrialState.FAIL, None)):
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_state_values(1, state, values)


def test_a_lost_connection_that_is_used_again(storage: ServerStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    losses = [True]

    def call() -> int:
        with storage.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            if losses:
                losses.pop()
                connection.invalidate()  # as when the server has crashed
            return connection.execute(text("SELECT 2")).scalar_one()

    assert wait_for(call) == 2
    assert not losses


def test_giving_up(study: optuna.Study, locked: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "WAIT", -1)
    locked()
    with pytest.raises(InputError, match=r"was out of reach for .*: database is locked; run the same command again"):
        study.get_trials()
    monkeypatch.setattr(reconnect, "WAIT", 1000)
    with pytest.raises(InputError):
        study.get_trials()  # at once
    time.sleep(0)
    assert study.get_trials() == []


def test_an_interrupt_while_waiting(
    study: optuna.Study, locked: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the search at once. The running trial stays as it is: another process finds it stale."""
    trial, release = study.ask(), time.sleep

    def interrupted() -> None:
        with Heartbeat(study) as running:
            running.register(trial)
            locked()
            monkeypatch.setattr(time, "sleep", Mock(side_effect=KeyboardInterrupt))
            trial.report(0.5, 0)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    release(0)
    assert study.trials[0].state == TrialState.RUNNING


def test_a_heartbeat_does_not_wait(study: optuna.Study, locked: Callable[[], object]) -> None:
    trial = study.ask()
    locked()
    with pytest.raises(StorageInternalError), no_waiting():
        beat(trial, 1.0)
    assert time.monotonic() - last_failure() < 100


def test_an_outage_is_no_silence(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process on another machine cannot send heartbeats while the database is out of reach."""
    study.ask().set_user_attr("worker", {"machine": "another", "process": 1, "seconds": 0.0})
    stale = StaleTrials(study)
    stale.find()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 300)
    monkeypatch.setattr(reconnect._Process, "last_failure", now + 290)
    assert stale.find() == []
    monkeypatch.setattr(time, "monotonic", lambda: now + 450)
    assert [trial.number for trial in stale.find()] == [0]
