"""The scripts and commands of the documents on a real SLURM of one machine, see slurm.sh; run with `-n0`."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, metrics_of, rows
from PIL import Image
from same_run import assert_same_run, wait_for

from stnrot.runs.processes.slurm import NOTE

pytestmark = pytest.mark.cluster
SCRIPT = ROOT / "tests" / "cluster" / "slurm.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CPU = (
    *("data.n_train=100", "data.repeats=1", "data.batch_size=16", "model=cnn", "trainer.max_epochs=3"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=2"),
    *("callbacks.progress=null", NO_FIGURES, "checkpoint.every_n_steps=2"),
)
TWO = ("trainer=ddp", "trainer.devices=2")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start SLURM; return the environment in which its commands find it."""
    if (missing := [name for name in PROGRAMS if shutil.which(name) is None]) or os.geteuid() != 0:
        pytest.fail(f"needs root and `apt-get install slurm-wlm munge`; missing: {missing}")
    folder = tmp_path_factory.mktemp("slurm")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    try:
        subprocess.run(["sh", SCRIPT, "start", folder], check=True, timeout=120)
        yield environment
    finally:
        subprocess.run(["sh", SCRIPT, "stop", folder], check=True, timeout=60)


def script(page: str, of: str, *small: str) -> str:
    """Return the script of a document that has a certain text, with options that make the job small."""
    blocks = re.findall(r"```text\n(#!.*?)```", (ROOT / "docs" / "how-to" / page).read_text(), re.DOTALL)
    (found,) = (block for block in blocks if of in block)
    return found.rstrip("\n") + " " + " ".join(small) + "\n"


class Job:
    """A script that SLURM runs in a folder."""

    def __init__(self, text: str, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.folder, self.environment = folder, environment
        (folder / "job.sh").write_text(text)
        self.id = self.run("sbatch", "--parsable", *options, "job.sh").strip()

    def run(self, *command: str) -> str:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def finish(self, seconds: float = 900) -> str:
        """Wait for the end; return all that the job has printed."""
        deadline = time.monotonic() + seconds
        while self.run("squeue", "--noheader", "--jobs", self.id).strip():
            assert time.monotonic() < deadline, self.run("scontrol", "show", "job", self.id)
            time.sleep(1)
        return "".join(path.read_text() for path in sorted(self.folder.glob("slurm-*.out")))


def only_run(folder: Path) -> Path:
    """Return the folder of the only run: rank 1 has made none."""
    (run,) = (folder / "outputs" / "train").glob("*/*")
    return run


@pytest.fixture(scope="session")
def whole(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two tasks that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    said = Job(script("cluster.md", "srun", *CPU), folder, slurm).finish()
    run = only_run(folder)
    assert metrics_of(run), said
    assert "2 processes, each with 8 samples of a batch" in said
    return run


def test_one_folder_for_two_tasks(whole: Path) -> None:
    """Only the first writes: one log, one table, and nothing of another process."""
    assert not list(whole.rglob("*process*"))
    assert len(list(whole.rglob("*.log"))) == 1
    assert len({path.name.split(".")[-2] for path in whole.rglob("events.out*")}) == 1  # process ids
    assert len(re.findall("precision: 32-true", (whole / "train.log").read_text())) == 1


@pytest.mark.parametrize("way", ["announced", "requeue", "pre-empted"])
def test_a_job_that_is_stopped_resumes(slurm: dict[str, str], whole: Path, way: str, tmp_path: Path) -> None:
    """The signal of `--signal`, `scontrol requeue`, and a job of a partition that goes first."""
    job = Job(script("cluster.md", "srun", *CPU), tmp_path, slurm)
    wait_for(tmp_path, "outputs/train/*/*/checkpoints/last.ckpt")
    if way == "announced":  # what --signal sends before the time limit
        job.run("scancel", "--signal=USR1", job.id)
    elif way == "requeue":
        job.run("scontrol", "requeue", job.id)
    else:
        job.run("sbatch", "--partition=high", "--ntasks=4", "--output=/dev/null", "--wrap=true")
    said = job.finish()
    run = only_run(tmp_path)
    assert "] - resumes /" in said, said
    assert ("SLURM has queued this job again" in said) == (way != "requeue")
    assert (run / NOTE).read_text() == job.id
    assert_same_run(run, whole)


def test_scancel_ends_the_job(slurm: dict[str, str], tmp_path: Path) -> None:
    """It saves, and is not queued again."""
    job = Job(script("cluster.md", "srun", *CPU, "trainer.max_epochs=200"), tmp_path, slurm)
    wait_for(tmp_path, "outputs/train/*/*/checkpoints/last.ckpt")
    job.run("scancel", job.id)
    said = job.finish()
    assert "stopped; this command resumes the run" in said
    assert "queued this job again" not in said
    assert "JobState=CANCELLED" in job.run("scontrol", "show", "job", job.id)


def hydra(environment: dict[str, str], cwd: Path, *options: str) -> str:
    line = [sys.executable, str(ROOT / "train.py"), "-m", "hydra/launcher=submitit_slurm", *options]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500)
    logs = "".join(path.read_text() for path in sorted(cwd.rglob("*_log.*")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout


def test_a_job_of_two_tasks_by_submitit(slurm: dict[str, str], whole: Path, tmp_path: Path) -> None:
    hydra(slurm, tmp_path, "hydra.launcher.tasks_per_node=2", *TWO, *CPU)
    assert_same_run(only_run(tmp_path) / "0", whole)
    assert len(re.findall("precision: 32-true", (only_run(tmp_path) / "0" / "train.log").read_text())) == 1


def test_a_job_of_two_tasks_by_submitit_that_is_preempted(slurm: dict[str, str], whole: Path, tmp_path: Path) -> None:
    """By a job of a partition that goes first; it needs the whole machine."""

    def preempt() -> None:
        wait_for(tmp_path, "outputs/train/*/*/0/checkpoints/last.ckpt")
        line = ["sbatch", "--partition=high", "--ntasks=4", "--output=/dev/null", "--wrap=true"]
        subprocess.run(line, cwd=tmp_path, env=slurm, check=True, timeout=60)

    with ThreadPoolExecutor(1) as pool:
        preempting = pool.submit(preempt)
        hydra(slurm, tmp_path, "hydra.launcher.tasks_per_node=2", *TWO, *CPU)
        preempting.result()
    run = only_run(tmp_path) / "0"
    log = (run / "train.log").read_text()
    assert log.count("SLURM has queued this job again") == log.count("] - resumes /") == 1
    assert_same_run(run, whole)


def test_a_sweep_by_submitit_of_which_a_job_is_stopped(slurm: dict[str, str], tmp_path: Path) -> None:
    """The signal of submitit, SIGUSR2, to both jobs; then the table has both."""

    def stop() -> None:
        wait_for(tmp_path, "outputs/train/*/*/0/checkpoints/last.ckpt")
        wait_for(tmp_path, "outputs/train/*/*/1/checkpoints/last.ckpt")
        subprocess.run(["scancel", "--signal=USR2", "--name=train", "--user=root"], env=slurm, check=True, timeout=60)

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop)
        said = hydra(slurm, tmp_path, "seed=1,2", *CPU, "trainer.max_epochs=20")
        stopping.result()
    assert "mean ± standard deviation" in said
    run = only_run(tmp_path)
    assert [row["seed"] for row in rows(run / "jobs.csv")] == ["1", "2"]
    for number in "01":
        log = (run / number / "train.log").read_text()
        assert log.count("SLURM has queued this job again") == log.count("] - resumes /") == 1
        steps = [int(row["step"]) for row in rows(run / number / "csv" / "version_0" / "metrics.csv")]
        assert steps == sorted(steps)
    by_hand = tmp_path / "whole"
    line = [sys.executable, str(ROOT / "train.py"), *CPU, "trainer.max_epochs=20", f"hydra.run.dir={by_hand}"]
    subprocess.run(line, env=ENVIRONMENT, check=True, timeout=400, capture_output=True)
    assert_same_run(run / "0", by_hand)


def test_an_array_predicts(slurm: dict[str, str], digits_run: Path, tmp_path: Path) -> None:
    """Three parts of 20 images, merged, are the table of one machine."""
    (tmp_path / "scans").mkdir()
    for number in range(20):
        Image.effect_noise((28, 28), 60 + number).save(tmp_path / "scans" / f"{number}.png")
    (tmp_path / "my-model").symlink_to(digits_run)
    page = script("several_machines.md", "predict")
    Job(page.replace("1-8", "1-3").replace("/8", "/3"), tmp_path, slurm).finish()
    stnrot = str(Path(sys.executable).with_name("stnrot"))
    parts = [f"part{number}.csv" for number in (1, 2, 3)]
    for line in (
        ["merge", *parts, "--out", "results.csv"],
        ["predict", "scans", "--model", "my-model", "--out", "one.csv"],
    ):
        subprocess.run([stnrot, *line], cwd=tmp_path, env=slurm, check=True, timeout=240)
    assert len(rows(tmp_path / "one.csv")) == 20
    assert (tmp_path / "results.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_an_array_searches_one_study(slurm: dict[str, str], tmp_path: Path) -> None:
    small = ("hydra.sweeper.n_trials=4", "debug=one_batch", *CPU[:3], *CPU[5:])
    page = script("cluster.md", "hparams_search", *small).replace("1-4", "1-2")
    said = Job(page, tmp_path, slurm).finish()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")))
    study = optuna.load_study(study_name=None, storage=storage)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3], said
    assert all(trial.state.is_finished() and trial.state != optuna.trial.TrialState.FAIL for trial in study.trials)


def test_a_task_that_is_killed_ends_the_job(slurm: dict[str, str], tmp_path: Path) -> None:
    """Within a minute; srun has the number of the task."""
    page = script("cluster.md", "srun", *CPU, "trainer.max_epochs=200")
    job = Job(page, tmp_path, slurm)
    wait_for(tmp_path, "outputs/train/*/*/checkpoints/last.ckpt")
    for rank in Path("/proc").glob("[0-9]*/environ"):
        try:
            entries = rank.read_bytes().split(b"\0")
        except OSError:
            continue
        command = (rank.parent / "cmdline").read_bytes()
        if {b"SLURM_PROCID=1", b"SLURM_JOB_ID=" + job.id.encode()} <= {*entries} and b"srun" not in command:
            os.kill(int(rank.parent.name), 9)
    said = job.finish(60)
    assert re.search("ExitCode=1(37|43):0", job.run("scontrol", "show", "job", job.id))
    assert "task 1: Killed" in said
    assert len(re.findall("^error: the connection to another process", said, re.MULTILINE)) <= 1  # srun ends it too
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("trainer.devices=2", "trainer.devices=3"), "srun has started 2 processes, and trainer.devices=3"),
        (("srun --kill-on-bad-exit=1 ", ""), "start the command with srun in front of it"),
        (("--ntasks-per-node=2", "--ntasks=2"), "expected the option --ntasks-per-node"),
    ],
)
def test_a_wrong_script(slurm: dict[str, str], change: tuple[str, str], words: str, tmp_path: Path) -> None:
    said = Job(script("cluster.md", "srun", *CPU).replace(*change), tmp_path, slurm).finish()
    (line,) = {*re.findall("^error: .*", said, re.MULTILINE)}  # each task prints it
    assert words in line
    assert "Traceback" not in said
    assert not (tmp_path / "outputs").exists()
