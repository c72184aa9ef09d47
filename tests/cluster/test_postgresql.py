"""One study on a real PostgreSQL server, which crashes and is restarted while four processes search."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import quote

import optuna
import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, refused
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, inspect, text

from stnrot.errors import InputError
from stnrot.search.storage import open_storage
from stnrot.search.study import SearchSpec, find_study, join_study
from stnrot.search.trials import LEFT_OUT, RETRY_OF, WORKER, counted

pytestmark = pytest.mark.cluster
PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "se@cret {x}"
SPEC = SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, [])
SEARCH = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, "debug=one_batch", NO_FIGURES]
SEARCH += ["hparams_search=_search", "model=cnn", "task.optimizer.lr=tag(log,interval(1e-4,1e-2))"]


def with_driver(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")  # SQLAlchemy 2.0 takes psycopg2


class Server:
    """A PostgreSQL server in a folder of its own. It refuses to run as root, so then it runs as `postgres`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user is not None:
            shutil.chown(folder, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        self._run("initdb", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--username=me")
        self.control("start")

    def _run(self, program: str, *arguments: str) -> None:
        assert PROGRAMS is not None
        line = [PROGRAMS / program, "-D", self.folder / "data", *arguments]
        with (self.folder / "output").open("w") as output:
            done = subprocess.run(line, user=self.user, cwd=self.folder, stdout=output, stderr=output)
        assert done.returncode == 0, (self.folder / "output").read_text()

    def control(self, command: str, *arguments: str) -> None:
        """Start, stop or restart the server, and wait until it has."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        if command != "stop":
            arguments = (*arguments, "-o", options, "-l", str(self.folder / "log"))
        self._run("pg_ctl", command, "-w", *arguments)

    def url(self, database: str = "postgres", password: str = PASSWORD, user: str = "me") -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """Create a database; return its URL."""
        with create_engine(with_driver(self.url()), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self.url(name)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if PROGRAMS is None:
        pytest.fail("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp())  # that of pytest cannot be read by another user
    started = Server(folder)
    yield started
    started.control("stop", "-m", "immediate")
    shutil.rmtree(folder)


def trials_in(url: str) -> list[FrozenTrial]:
    return [] if (study := find_study(url, None)) is None else study.trials


def wait_until_done(url: str, count: int) -> FrozenTrial:
    """Wait until so many trials are complete and another one has begun its epochs; return this one."""
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        trials = trials_in(url)
        running = [each for each in trials if each.state == TrialState.RUNNING and each.intermediate_values]
        if running and sum(trial.state == TrialState.COMPLETE for trial in trials) >= count:
            return running[-1]
        time.sleep(0.2)
    pytest.fail("the search does not get on")


def kill_one(url: str, processes: dict[int, subprocess.Popen[bytes]]) -> int:
    """Kill a process in the middle of a trial; return the number of the trial."""
    while True:
        number = wait_until_done(url, 1).number
        process = processes[trials_in(url)[number].user_attrs[WORKER]["process"]]
        process.send_signal(signal.SIGSTOP)
        if trials_in(url)[number].state == TrialState.RUNNING:
            process.kill()
            process.wait()
            del processes[process.pid]
            return number
        process.send_signal(signal.SIGCONT)


def test_four_processes_and_a_server_that_crashes(server: Server, tmp_path: Path) -> None:
    """No trial is lost or has run twice: after kill -9 of one process, a crash of the server, and another of 15 s."""
    url = server.new_database("crashes")
    line = [*SEARCH, "trainer.max_epochs=15", "hydra.sweeper.n_trials=8", "hydra.sweeper.storage=${oc.env:STUDY}"]
    logs = [(tmp_path / f"process{number}.txt").open("w") for number in range(4)]
    processes = {}
    for log in logs:
        started = subprocess.Popen(
            line, cwd=tmp_path, env=ENVIRONMENT | {"STUDY": url}, stdout=log, stderr=subprocess.STDOUT
        )
        processes[started.pid] = started
    try:
        killed = kill_one(url, processes)
        wait_until_done(url, 2)
        server.control("restart", "-m", "immediate")
        wait_until_done(url, 4)
        server.control("stop", "-m", "immediate")
        time.sleep(15)
        server.control("start")
        codes = [process.wait(timeout=500) for process in processes.values()]
    finally:
        for process in processes.values():
            process.kill()
        for log in logs:
            log.close()
    printed = "".join(path.read_text() for path in sorted(tmp_path.glob("process*.txt")))
    print(printed)
    assert codes == [0, 0, 0]
    assert "the database is out of reach, waiting up to 10 minutes" in printed
    assert printed.count("is out of reach") == printed.count("answers again")

    trials = trials_in(url)
    done = counted(trials)
    assert len(done) == 8
    assert {trial.state for trial in done} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert [trial.number for trial in trials] == list(range(len(trials)))
    failed = [each for each in trials if each.value is None and LEFT_OUT not in each.user_attrs]
    assert {trial.state for trial in failed} == {TrialState.FAIL}
    retried = [trial.user_attrs.get(RETRY_OF) for trial in done]
    assert all(retried.count(trial.number) == 1 for trial in failed)
    assert killed in [trial.number for trial in failed]
    assert len({trial.params["task.optimizer.lr"] for trial in done}) == 8
    folder = tmp_path / "outputs" / "search" / "_search"
    for trial in done:
        assert (folder / str(trial.number) / "metrics.json").is_file() == (trial.state == TrialState.COMPLETE)
        assert len(list((folder / str(trial.number) / "csv").iterdir())) == 1
    for path in tmp_path.rglob("*"):
        text = path.read_bytes() if path.is_file() else b""
        assert PASSWORD.encode() not in text
        assert quote(PASSWORD, safe="").encode() not in text, path


def test_processes_that_create_the_study_at_the_same_moment(server: Server) -> None:
    """Optuna's tables are created without a lock: all processes but one would fail."""
    url = server.new_database("created")
    with ThreadPoolExecutor(8) as threads:
        studies = list(threads.map(lambda _: join_study(url, "one", SPEC), range(8)))
        numbers = list(threads.map(lambda study: study.ask().number, studies))
    assert sorted(numbers) == list(range(8))


def test_a_connection_that_is_cut_within_a_call(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    study = join_study(server.new_database("cut"), "one", SPEC)
    numbers, enough = list[int](), Event()

    def ask() -> None:
        while not enough.is_set():
            numbers.append(study.ask().number)

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask)
        for _ in range(3):
            time.sleep(1)
            server.control("restart", "-m", "immediate")
        enough.set()
        asking.result()
    assert "the database answers again" in caplog.text
    assert len(set(numbers)) == len(numbers)
    created = [trial.number for trial in study.trials]
    assert created == list(range(len(created)))
    assert len(created) - len(numbers) in range(4)  # of those whose answer was lost


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong!"}, "password authentication failed"),
        ({"user": "nobody"}, "password authentication failed"),
        ({"database": "none"}, 'database "none" does not exist'),
    ],
)
def test_a_wrong_url(server: Server, called, tmp_path: Path, changes: dict[str, str], words: str) -> None:
    url = server.url(**changes)
    line = refused(called, tmp_path, "study", url, "--out", "report")
    assert words in line
    with pytest.raises(InputError, match=words):
        open_storage(url)
    assert "check that the server runs" in line
    assert "wrong" not in line
    assert "cret" not in line


def test_nothing_is_written_by_a_reader(server: Server, called, tmp_path: Path) -> None:
    url = server.new_database("empty")
    refused(called, tmp_path, "study", url, "--out", "report")
    assert inspect(create_engine(with_driver(url))).get_table_names() == []


def test_optuna_reads_the_study(server: Server) -> None:
    """With its plain storage, as optuna-dashboard does."""
    url = server.new_database("plain")
    study = join_study(url, "one", SPEC)
    study.tell(study.ask(), 1.5)
    assert [trial.value for trial in optuna.load_study(study_name="one", storage=url.replace("{", "{{")).trials] == [
        1.5
    ]
