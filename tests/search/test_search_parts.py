"""What a search makes of its trials and storages, on studies of Optuna in this process."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, rows
from optuna.trial import TrialState, create_trial

from stnrot.errors import InputError
from stnrot.search import heartbeat, signs_of_life
from stnrot.search.heartbeat import Heartbeat
from stnrot.search.report import report
from stnrot.search.signs_of_life import is_stale
from stnrot.search.stale_trials import retry_stale_trials
from stnrot.search.storage import is_empty, open_storage
from stnrot.search.study import SearchSpec, find_study, join_study
from stnrot.search.trials import counted

SEARCH = SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, ["model=cnn", "data.root=here"])


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def asked(study: optuna.Study, **worker: object) -> int:
    """Ask for a trial as the process would."""
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    signed = {"machine": signs_of_life.machine(), "process": os.getpid(), "alive": time.time()}
    trial.set_user_attr("worker", signed | worker)
    return trial.number


def gone() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_stale_trials_are_told_from_running_ones(study: optuna.Study) -> None:
    silent = time.time() - signs_of_life.GRACE - 1
    asked(study)
    asked(study, process=gone())
    asked(study, machine="another", process=gone())
    asked(study, machine="another", alive=silent)
    study.ask()  # not signed yet
    study.add_trial(create_trial(state=TrialState.WAITING))
    assert [trial.number for trial in study.trials if is_stale(trial)] == [1, 3]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="elsewhere only its silence tells")
def test_the_trial_of_a_process_that_nobody_has_waited_for(study: optuna.Study) -> None:
    """As after kill -9 in a container whose first process does not wait."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    asked(study, process=ended.pid)
    assert is_stale(study.trials[0])
    ended.wait()


def test_an_orphan_is_asked_again_once(study: optuna.Study) -> None:
    asked(study, process=gone())
    for _ in range(2):
        retry_stale_trials(study)
    orphan, again = study.trials
    assert orphan.state == TrialState.FAIL
    assert [trial.number for trial in counted(study.trials)] == [1]
    with Heartbeat(study) as work:
        trial = study.ask()
        work.take(trial)
        assert trial.number == again.number
        assert trial.suggest_float("x", 0, 1) == orphan.params["x"]
        work.end(trial, TrialState.COMPLETE, value=1.0)
    assert len(study.trials) == 2
    assert counted(study.trials)[0].value == 1.0


def test_a_trial_that_dies_before_it_takes_its_parameters_up(study: optuna.Study) -> None:
    number = asked(study, process=gone())
    retry_stale_trials(study)
    study.ask().set_user_attr("worker", study.trials[number].user_attrs["worker"])
    retry_stale_trials(study)
    assert study.ask().suggest_float("x", 0, 1) == study.trials[number].params["x"]


def test_a_trial_whose_process_dies_three_times_has_failed(study: optuna.Study) -> None:
    for _ in range(3):
        asked(study, process=gone())
        retry_stale_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3
    assert len({trial.params["x"] for trial in study.trials}) == 1
    (last,) = counted(study.trials)
    assert last.number == 2


def test_the_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the database of another program"):
        find_study(f"sqlite:///{path}", None)
    assert path.read_bytes() == before


def test_interrupted_between_asking_again_and_failing(study: optuna.Study) -> None:
    number = asked(study, process=gone())
    study.enqueue_trial(study.trials[number].params, user_attrs={"retry_of": number})
    retry_stale_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_what_processes_without_a_lock_ask_twice_counts_once(study: optuna.Study) -> None:
    number = asked(study, process=gone())
    for _ in range(2):
        study.enqueue_trial({"x": 0.5}, user_attrs={"retry_of": number})
    assert [trial.number for trial in counted(study.trials)] == [1]
    study.tell(number, 1.0)  # it was alive after all
    assert [trial.number for trial in counted(study.trials)] == [0]


def test_what_is_left_of_a_process_that_ends_is_asked_again(study: optuna.Study) -> None:
    def work_until_interrupted() -> None:
        with Heartbeat(study) as work:
            work.take(study.ask())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_until_interrupted()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].user_attrs["reason"] == "interrupted"


def test_interrupts_do_not_count_as_deaths(study: optuna.Study) -> None:
    for _ in range(4):
        with suppress(KeyboardInterrupt), Heartbeat(study) as work:
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            work.take(trial)
            raise KeyboardInterrupt
    assert asked(study, process=gone()) == 4
    retry_stale_trials(study)
    assert study.ask().suggest_float("x", 0, 1) == study.trials[0].params["x"]


def test_the_heartbeat_goes_on(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    with Heartbeat(study) as work:
        trial = study.ask()
        work.take(trial)
        first = study.trials[0].user_attrs["worker"]["alive"]
        deadline = time.monotonic() + 30
        while study.trials[0].user_attrs["worker"]["alive"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert study.trials[0].user_attrs["worker"]["alive"] > first
        work.end(trial, TrialState.PRUNED)


def test_a_running_trial_is_reported_with_its_minutes(
    study: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(study)
    asked(study, process=gone())
    ninety_seconds_ago = datetime.now() - timedelta(seconds=90)
    for trial in study.get_trials(deepcopy=False):
        trial.datetime_start = ninety_seconds_ago
    report(study, tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"^0 +running +1\.5 ", printed, re.MULTILINE)
    assert "trial 1: its process died" in printed.splitlines()
    row = rows(tmp_path / "trials.csv")[0]
    assert (row["trial"], row["state"]) == ("0", "running")
    assert float(row["minutes"]) == pytest.approx(1.5, abs=0.1)


def test_a_journal_whose_last_line_was_half_written(tmp_path: Path) -> None:
    place = str(tmp_path / "study.log")
    join_study(place, "one", SEARCH).ask()
    whole = Path(place).read_bytes()
    Path(place).write_bytes(whole + b'{"op_code":4,"worker')
    study = join_study(place, "one", SEARCH)
    study.ask()
    assert Path(place).read_bytes().startswith(whole)
    found = find_study(place, None)
    assert found is not None
    assert len(found.trials) == 2


def test_a_study_of_another_search(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    join_study(place, "one", SEARCH)
    join_study(place, "one", SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, ["data.root=there", "model=cnn"]))
    for other, words in (
        (SearchSpec("minimize", "val/nll", SEARCH.space, SEARCH.options), "metric: val/loss, here val/nll"),
        (SearchSpec("minimize", "val/loss", {"x": "0 to 2"}, SEARCH.options), "x: 0 to 1, here 0 to 2"),
        (SearchSpec("minimize", "val/loss", SEARCH.space, []), "options: model=cnn, here "),
        (SearchSpec("maximize", "val/loss", SEARCH.space, SEARCH.options), "direction: minimize, here maximize"),
    ):
        with pytest.raises(InputError, match=words):
            join_study(place, "one", other)
    optuna.create_study(storage=place, study_name="two").ask()
    with pytest.raises(InputError, match="not made by a search of this project"):
        join_study(place, "two", SEARCH)
    with pytest.raises(InputError, match="several studies: expected --study with one of one, two"):
        find_study(place, None)
    assert find_study(place, "three") is None


@pytest.mark.parametrize("place", ["sqlite:///none/study.db", "none/study.log", "nonsense://x", "sqlite:///text.log",
                                   "text.log", "postgresql://me:secret@127.0.0.1:1/x", "sqlite://"])  # fmt: skip
def test_storages_that_cannot_be_used(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.log").write_text("not a journal\n")
    with pytest.raises(InputError) as failure:
        open_storage(place)
    assert len(str(failure.value).splitlines()) == 1
    assert "secret" not in str(failure.value)
    assert Path("text.log").read_text() == "not a journal\n"
    assert not Path("none").exists()


@pytest.mark.parametrize(("url", "package"), [("postgresql://me:secret@host/x", "'psycopg[binary]'"),
                                              ("postgresql+psycopg2://host/x", "psycopg2-binary"),
                                              ("mysql://host/x", "mysqlclient"),
                                              ("mysql+pymysql://host/x", "pymysql")])  # fmt: skip
@pytest.mark.parametrize("use", [open_storage, is_empty])
def test_a_driver_that_is_missing(
    use: Callable[[str], object], url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("psycopg", "psycopg2", "MySQLdb", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"pip install {package} (")) as failure:
        use(url)
    assert "secret" not in str(failure.value)


def test_hydra_finds_the_sweeper_without_importing_optuna() -> None:
    """Which takes time in every job, and which a plain job can do without."""
    code = (
        "import sys; sys.modules['optuna'] = None; import train; from hydra.core.plugins import Plugins; "
        "from hydra.plugins.sweeper import Sweeper; "
        "assert 'OptunaSweeper' in [found.__name__ for found in Plugins.instance().discover(Sweeper)]"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_report_whose_reader_has_gone(tmp_path: Path) -> None:
    """As `stnrot sweep STORAGE | head` does."""
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=storage)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "stnrot.cli", "study", storage], stdout=closed, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (141, b"")
