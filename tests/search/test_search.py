"""Whole searches in their own processes, killed and shared. Their studies are read back with Optuna alone."""

import json
import math
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from conftest import ENVIRONMENT, ROOT, SMALL, command, made_once, rows
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stnrot.cli import main

TINY = [*SMALL, "debug=one_batch", "callbacks.alignment_figures=null"]
SPACE = ["hparams_search=_search", "model=cnn", "task.optimizer.lr=tag(log,interval(1e-4,1e-2))"]
ROT_STN = ["-m", *TINY, "trainer.max_epochs=2", "hparams_search=rot_stn"]
FOLDER = Path("outputs/search/_search")
TASK = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}


def arguments(*options: str) -> list[str]:
    return ["-m", *TINY, *SPACE, *options]


def started(*options: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments(*options)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trials_in(storage: Path) -> list[FrozenTrial]:
    """Return the trials of the only study in a database or journal."""
    if not storage.exists():
        return []
    if storage.suffix == ".log":
        opened: BaseStorage = JournalStorage(JournalFileBackend(str(storage)))
    else:
        opened = RDBStorage(f"sqlite:///{storage}", skip_table_creation=True)
    return optuna.load_study(study_name=None, storage=opened).trials


def signal_during_trial(
    storage: Path, processes: dict[int, subprocess.Popen[str]], number: int, sent: signal.Signals
) -> str:
    """Send a signal to a process that is in the middle of the trial `number` or of a later one; return its output."""

    def processes_in_a_trial() -> list[int]:
        try:
            running = of_state(trials_in(storage), TrialState.RUNNING)
        except Exception:  # the storage is being created, or the stopped process holds its lock
            return []
        later = [trial for trial in running if trial.number >= number and trial.intermediate_values]
        return [trial.user_attrs["worker"]["process"] for trial in later]

    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for process in processes_in_a_trial():
            processes[process].send_signal(signal.SIGSTOP)
            still = process in processes_in_a_trial()
            if still:
                processes[process].send_signal(sent)
            processes[process].send_signal(signal.SIGCONT)
            if still:
                return processes.pop(process).communicate(timeout=60)[0]
        time.sleep(0.05)
    pytest.fail(f"no trial {number} is running in {storage}")


def of_state(trials: list[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == state]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run `hparams_search=rot_stn` with four short trials, once for all workers; return its folder and its output.

    It runs as the second of two tasks that srun has started, each of which has trials of its own.
    """

    def run(work: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in TASK.items():
                patch.setitem(ENVIRONMENT, name, value)
            done = command("train.py", *ROT_STN, "hydra.sweeper.n_trials=4", cwd=work)
        assert done.returncode == 0, done.stderr
        (work / "printed").write_text(done.stdout)

    work = made_once(tmp_path_factory, "search", run)
    return work, (work / "printed").read_text()


def test_a_search(search) -> None:
    work, printed = search
    folder = work / "outputs" / "search" / "rot_stn"
    trials = trials_in(folder / "study.db")
    assert [trial.state for trial in trials] == 4 * [TrialState.COMPLETE]
    encoders = set()
    for trial in trials:
        run = folder / str(trial.number)
        logged = [float(row["val/nll"]) for row in rows(run / "csv" / "version_0" / "metrics.csv") if row["val/nll"]]
        assert trial.value == pytest.approx(min(logged))  # the best of the validation
        assert list(trial.intermediate_values.values()) == pytest.approx(logged)
        assert "test/nll" in json.loads((run / "metrics.json").read_text())
        encoders.add(trial.params["model/encoder"])
        assert ("model.hypotheses" in trial.params) == (trial.params["model/encoder"] == "polar")
    assert encoders == {"polar", "cnn"}
    best = min(trials, key=lambda trial: trial.value or math.inf)
    table = rows(folder / "trials.csv")
    assert [float(row["val/nll"]) for row in table] == sorted(trial.value for trial in trials)
    assert table[0]["trial"] == str(best.number)
    assert float(table[0]["task.optimizer.lr"]) == best.params["task.optimizer.lr"]
    for name in ("history", "parallel"):
        assert Image.open(folder / f"{name}.png").size[0] > 500
    assert "importance of task.optimizer.lr" in printed


@pytest.mark.ci
def test_the_printed_command_repeats_the_best_trial(search, tmp_path: Path) -> None:
    work, printed = search
    line = next(line for line in printed.splitlines() if line.startswith("python train.py"))
    assert "hparams_search" not in line
    again = command("train.py", *shlex.split(line)[2:], "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    folder = work / "outputs" / "search" / "rot_stn"
    best = rows(folder / "trials.csv")[0]["trial"]
    assert (tmp_path / "again" / "metrics.json").read_text() == (folder / best / "metrics.json").read_text()


def test_a_finished_search_is_reported_by_the_command(search, tmp_path: Path, monkeypatch, capsys) -> None:
    work, printed = search
    storage = f"sqlite:///{work}/outputs/search/rot_stn/study.db"
    monkeypatch.setattr(sys, "argv", ["stnrot", "study", storage, "--out", str(tmp_path / "here")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"trials.csv", "history.png", "parallel.png"}
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]


def test_the_hyperparameters_of_a_trial_are_in_tensorboard(search) -> None:
    work, _ = search
    for number in range(4):
        events = EventAccumulator(str(work / "outputs" / "search" / "rot_stn" / str(number) / "tensorboard"))
        events.Reload()
        assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
        assert {"best/val/nll", "test/accuracy"} <= set(events.Tags()["scalars"])


def test_optuna_dashboard_shows_a_search(search) -> None:
    """Run the documented command and ask its server over HTTP."""
    work, _ = search
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storage = "sqlite:///outputs/search/rot_stn/study.db"
    assert f"optuna-dashboard {storage}" in (ROOT / "docs/how-to/sweep.md").read_text()
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("optuna-dashboard")), storage, "--port", str(port)],
        cwd=work,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                address = f"http://127.0.0.1:{port}/api/studies"
                (study,) = json.loads(urllib.request.urlopen(address, timeout=30).read())["study_summaries"]
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.2)
        assert study["study_name"] == "rot_stn"
        found = json.loads(urllib.request.urlopen(f"{address}/{study['study_id']}", timeout=30).read())
        assert [trial["state"] for trial in found["trials"]] == 4 * ["Complete"]
    finally:
        server.terminate()
        server.wait()


@pytest.mark.ci
def test_a_killed_and_interrupted_search_resumes(tmp_path: Path) -> None:
    """kill -9 in the second trial and Ctrl-C in the last one: at the end no trial is lost or has run twice."""
    storage = tmp_path / FOLDER / "study.db"
    options = ["hydra.sweeper.n_trials=4", "trainer.max_epochs=15"]
    process = started(*options, cwd=tmp_path)
    signal_during_trial(storage, {process.pid: process}, 1, signal.SIGKILL)
    first = trials_in(storage)[0]
    process = started(*options, cwd=tmp_path)
    output = signal_during_trial(storage, {process.pid: process}, 3, signal.SIGINT)
    assert process.returncode == 130, output
    assert not of_state(trials_in(storage), TrialState.RUNNING)
    process = started(*options, cwd=tmp_path)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output

    trials = trials_in(storage)
    complete, interrupted = of_state(trials, TrialState.COMPLETE), of_state(trials, TrialState.FAIL)
    assert len(complete) == 4
    assert len(interrupted) == 2
    assert len(trials) == 6
    assert (trials[0].value, trials[0].datetime_complete) == (first.value, first.datetime_complete)
    assert len({trial.params["task.optimizer.lr"] for trial in complete}) == 4
    for trial in interrupted:
        assert [other.params for other in complete].count(trial.params) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_several_processes_share_a_study(name: str, tmp_path: Path) -> None:
    """One is killed during a trial. The others retry the trial, and stop when the study is complete."""
    storage = tmp_path / name
    location = f"sqlite:///{storage}" if name.endswith("db") else str(storage)
    options = [f"hydra.sweeper.storage={location}", "hydra.sweeper.n_trials=6", "trainer.max_epochs=15"]
    processes = {process.pid: process for process in (started(*options, cwd=tmp_path) for _ in range(4))}
    signal_during_trial(storage, processes, 0, signal.SIGKILL)
    for process in processes.values():
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output

    trials = trials_in(storage)
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(done) == 6
    assert len(trials) == 7
    rates = [trial.params["task.optimizer.lr"] for trial in done]
    assert len(set(rates)) == 6
    (killed,) = of_state(trials, TrialState.FAIL)
    assert rates.count(killed.params["task.optimizer.lr"]) == 1


@pytest.mark.ci
def test_bad_trials_are_pruned_and_not_tested(search, tmp_path: Path) -> None:
    work, _ = search
    shutil.copytree(work / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / "search" / "rot_stn"
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/study.db")
    for _ in range(5):  # better than any trial of the search
        study.add_trial(optuna.create_trial(value=0.0, intermediate_values={0: 0.0, 1: 0.0}))
    done = command("train.py", *ROT_STN, "hydra.sweeper.n_trials=10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trial = study.trials[9]
    assert trial.state == TrialState.PRUNED
    assert not (folder / "9" / "metrics.json").exists()
    assert not (folder / "9" / "predictions.csv").exists()
    events = EventAccumulator(str(folder / "9" / "tensorboard"))
    events.Reload()
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    assert events.Scalars("best/val/nll")[0].value == pytest.approx(trial.intermediate_values[0])


@pytest.mark.ci
def test_a_failed_trial_is_recorded_and_equal_parameters_run_once(tmp_path: Path) -> None:
    """Five trials of two choices, one of which fails; two jobs at a time, in processes of submitit."""
    options = ["task.optimizer.lr=1e-3", "data.n_train=100,5000", "hydra/launcher=submitit_local"]
    options += ["hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=5"]
    done = command("train.py", *arguments(*options), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert re.search(r"^error: \d of 5 trials failed", done.stderr.splitlines()[-1])
    trials = trials_in(tmp_path / FOLDER / "study.db")
    assert len(trials) == 5
    for trial in trials:
        assert (trial.state == TrialState.FAIL) == (trial.params["data.n_train"] == 5000)
        if trial.state == TrialState.FAIL:
            assert "data.n_train=5000" in trial.user_attrs["reason"]
    complete = of_state(trials, TrialState.COMPLETE)
    assert 0 < len(complete) < 5
    assert len({trial.value for trial in complete}) == 1
    assert all(trial.intermediate_values for trial in complete)
    assert len([path for path in (tmp_path / FOLDER).iterdir() if path.name.isdigit()]) == 2
    assert len(list((tmp_path / FOLDER / ".submitit").glob("[0-9]*"))) == 2  # jobs
