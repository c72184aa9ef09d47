"""A process of a job is killed: the job ends in one line, and the run resumes. Two nodes of torchrun are one run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, free_port
from same_run import assert_same_run, wait_for

from stnrot.runs.run_lock import NAME

pytestmark = pytest.mark.slow
OPTIONS = (
    *(*SMALL, NO_FIGURES, "model=cnn", "data.batch_size=16", "trainer.log_every_n_steps=2"),
    *("checkpoint.every_n_steps=2", "trainer=ddp", "callbacks.progress=null"),
)

NODES = (*OPTIONS, "trainer.max_epochs=3", "trainer.devices=1", "trainer.num_nodes=2")


def start(cwd: Path, *line: str) -> subprocess.Popen[str]:
    """Start `train.py`, after the words of a launcher."""
    return subprocess.Popen(
        [sys.executable, *line], cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def processes_of(run: Path) -> dict[str, list[int]]:
    """Return the process ids of each rank of a job: its own, then those of the processes that fetch its batches."""
    found: dict[str, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
            entries = (each / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"hydra.run.dir={run}".encode() in words and any(word.endswith(b"train.py") for word in words[:3]):
            ranks = {name: value for name, _, value in (entry.partition(b"=") for entry in entries)}
            found.setdefault(ranks.get(b"RANK", ranks.get(b"LOCAL_RANK", b"0")).decode(), []).append(int(each.name))
    return {rank: sorted(pids) for rank, pids in found.items()}


def runs(pid: int) -> bool:
    """Return whether a process has not ended; it may still wait for its parent to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, str(ROOT / "train.py"), *OPTIONS, "trainer.max_epochs=3", f"hydra.run.dir={folder}/run")
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert "sync_dist" not in errors  # a notice of Lightning that is not so
    return folder / "run"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_is_killed(whole: Path, rank: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(tmp_path, str(ROOT / "train.py"), *OPTIONS, "trainer.max_epochs=3", f"hydra.run.dir={run}")
    wait_for(run, "checkpoints/last.ckpt")
    ranks = processes_of(run)
    os.kill(ranks[rank][0], signal.SIGKILL)
    printed = job.communicate(timeout=60)  # until the last process has closed its output
    assert job.returncode == (-9 if rank == "0" else 1)
    (line,) = re.findall("^error: .*", printed[1], re.MULTILINE)
    assert f"process {rank} of this job was killed" in line
    assert "Traceback" not in printed[1]
    assert not any(runs(pid) for pids in ranks.values() for pid in pids)
    resume = line.rpartition(" ")[2]
    done = start(tmp_path, str(ROOT / "train.py"), resume)
    _, errors = done.communicate(timeout=400)
    assert done.returncode == 0, errors
    assert_same_run(run, whole)


def test_a_whole_job_that_is_killed(whole: Path, tmp_path: Path) -> None:
    """Both processes within an epoch; those that fetch their batches notice it and end."""
    run = tmp_path / "run"
    options = (*OPTIONS, "trainer.max_epochs=3", "data.num_workers=2", f"hydra.run.dir={run}")
    job = start(tmp_path, str(ROOT / "train.py"), *options)
    wait_for(run, "checkpoints/last.ckpt")
    ranks = processes_of(run)
    assert all(len(ranks[rank]) > 2 for rank in "01"), ranks
    for rank in "01":
        os.kill(ranks[rank][0], signal.SIGKILL)
    job.communicate(timeout=60)  # until the last process has closed its output
    assert not any(runs(pid) for pids in ranks.values() for pid in pids)
    assert not (run / "metrics.json").exists()
    done = start(tmp_path, str(ROOT / "train.py"), f"resume={run}")
    _, errors = done.communicate(timeout=400)
    assert done.returncode == 0, errors
    assert_same_run(run, whole)
    assert not [path for path in run.rglob("*") if "stnrot-" in path.name or path.name == NAME]


def agents(cwd: Path, *options: str) -> list[subprocess.Popen[str]]:
    """Start two agents of torchrun with one process each, as on two machines."""
    end = f"127.0.0.1:{free_port()}"
    agent = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    agent += [f"--rdzv-endpoint={end}", "--rdzv-id=17", str(ROOT / "train.py")]
    return [start(cwd, *agent, *options) for _ in range(2)]


def test_two_agents_of_torchrun(whole: Path, tmp_path: Path) -> None:
    """The default folder has the time in its name; both write to one."""
    both = agents(tmp_path, *NODES)
    printed = [each.communicate(timeout=400) for each in both]
    assert [each.returncode for each in both] == [0, 0], printed
    (run,) = (tmp_path / "outputs" / "train").glob("*/*")
    assert_same_run(run, whole)
    assert len(list(run.glob("*.log"))) == 1


def test_a_process_of_torchrun_that_is_killed(whole: Path, tmp_path: Path) -> None:
    """torchrun names it; the survivor has one line. It resumes by the same launcher."""
    run = tmp_path / "run"
    both = agents(tmp_path, *NODES, f"hydra.run.dir={run}")
    wait_for(run, "checkpoints/last.ckpt")
    os.kill(processes_of(run)["1"][0], signal.SIGKILL)
    since = time.monotonic()
    printed = "".join(each.communicate(timeout=120)[1] for each in both)
    assert all(each.returncode == 1 for each in both), time.monotonic() - since
    assert re.search(r"exitcode\s*: -9", printed)
    assert len(re.findall("^error: the connection to another process", printed, re.MULTILINE)) == 1
    again = agents(tmp_path, f"resume={run}")
    said = [each.communicate(timeout=400) for each in again]
    assert [each.returncode for each in again] == [0, 0], said
    assert_same_run(run, whole)


@pytest.mark.parametrize("node", ["0", "1"])
def test_machines_that_do_not_meet(node: str, tmp_path: Path) -> None:
    """Started by hand on one of two machines: one line, nothing written."""
    patience = "import sys, runpy, stnrot.runs.processes.meeting as meeting; meeting.PATIENCE = 1.0; sys.argv.pop(0)"
    code = f"{patience}; runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": node}
    line = [sys.executable, "-c", code, str(ROOT / "train.py"), *OPTIONS, "trainer.num_nodes=2"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.fullmatch(r"error: process 1 of this job .* within 1 s.*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_the_first_machine_is_refused(tmp_path: Path) -> None:
    """It alone looks into the folder. The other one does not wait for it."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    before = sorted(tmp_path.rglob("*"))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    line = [sys.executable, str(ROOT / "train.py"), *NODES, "hydra.run.dir=run"]
    environments = [ENVIRONMENT | place | {"NODE_RANK": node} for node in ("1", "0")]
    jobs = [subprocess.Popen(line, cwd=tmp_path, env=each, stderr=subprocess.PIPE, text=True) for each in environments]
    other, first = (job.communicate(timeout=200)[1] for job in jobs)
    assert [job.returncode for job in jobs] == [1, 1]
    assert re.fullmatch("error: .*holds the checkpoints of a run already.*\n", first)
    assert re.fullmatch("error: the first process of this job was refused, .*\n", other)
    assert sorted(tmp_path.rglob("*")) == before
