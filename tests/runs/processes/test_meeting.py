"""The processes of a job meet, or say in one line why not."""

import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from omegaconf import OmegaConf
from torch.distributed import PrefixStore, TCPStore

import stnrot.runs.processes.meeting as meeting
from stnrot.errors import InputError
from stnrot.jobs.train import _say_how_to_resume, resume_run
from stnrot.runs.processes.launched import Launched, launched
from stnrot.runs.processes.meeting import meet
from stnrot.runs.processes.one_folder import OneFolder
from stnrot.runs.processes.refused import _first_of_several, tells_others
from stnrot.runs.run_lock import NAME, alone_in
from stnrot.runs.stop_signals import is_first_process

STARTED = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "17", "RANK": "3", "WORLD_SIZE": "4"}
HAND = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "NODE_RANK": "1"}
Here = Callable[..., None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Set the variables by which a process sees how it was started."""
    monkeypatch.setattr(meeting, "began", False)  # restored at the end
    for name in (*STARTED, *SLURM, "SLURM_JOB_NAME", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("variables", "trainer", "found"),
    [
        ({}, {}, None),
        (HAND | {"LOCAL_RANK": "1"}, {"devices": 2, "num_nodes": 2}, None),  # the first process has started it
        (SLURM | {"SLURM_JOB_NAME": "bash"}, {"devices": 1}, None),
        (SLURM, {"devices": 2}, Launched("srun", 1, 2)),
        (SLURM, {"devices": "auto"}, Launched("srun", 1, 2)),
        (SLURM, {"devices": "\N{SUPERSCRIPT TWO}"}, Launched("srun", 1, 2)),  # a digit for Python, but no number
        (ELASTIC, {"devices": [0, 1], "num_nodes": 2}, Launched("torchrun", 3, 4)),
        (HAND, {"devices": 2, "num_nodes": 2}, Launched("by hand", 1, 2)),
    ],
)
def test_how_a_process_was_started(
    here: Here, variables: dict[str, str], trainer: dict[str, Any], found: Launched | None
) -> None:
    here(**variables)
    assert launched(trainer) == found


def test_jobs_of_one_process_beside_each_other(here: Here) -> None:
    here(**SLURM)
    assert launched({"devices": 1}, beside_others=True) is None
    with pytest.raises(InputError, match="srun has started 2 processes"):
        launched({"devices": 3}, beside_others=True)


def test_a_job_of_one_process_beside_others_is_the_first(here: Here, tmp_path: Path) -> None:
    """A search that srun has started four times: each process locks the folders of its trials."""
    here(**SLURM)
    assert not is_first_process()
    with alone_in(tmp_path):
        assert not (tmp_path / NAME).exists()
    OneFolder().on_multirun_start(OmegaConf.create({"hydra": {"sweeper": {"storage": "study.log"}}}))
    assert is_first_process()
    with alone_in(tmp_path):
        assert (tmp_path / NAME).exists()


@pytest.mark.parametrize("by", ["srun", "torchrun"])
def test_a_grid_that_several_processes_would_run_is_refused(here: Here, by: str) -> None:
    grid = OmegaConf.create({"hydra": {"sweeper": {"max_batch_size": None}}})
    here(**(SLURM if by == "srun" else ELASTIC))
    with pytest.raises(SystemExit, match=rf"^error: {by} has started \d processes, each of which would run all jobs"):
        OneFolder().on_multirun_start(grid)


def test_a_grid_that_srun_has_started_without_its_option_is_refused(here: Here, monkeypatch: Any) -> None:
    here(**SLURM)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    grid: dict[str, Any] = {"hydra": {"sweeper": {"max_batch_size": None}}}
    with pytest.raises(SystemExit, match=r"^error: srun has started 2 tasks: expected the option --ntasks-per-node"):
        OneFolder().on_multirun_start(OmegaConf.create(grid))
    grid["hydra"]["sweeper"]["storage"] = "study.log"
    OneFolder().on_multirun_start(OmegaConf.create(grid))


def test_a_grid_in_a_reservation_of_slurm_is_one_process(here: Here) -> None:
    here(SLURM_NTASKS="2", SLURM_PROCID="0")
    OneFolder().on_multirun_start(OmegaConf.create({"hydra": {"sweeper": {"max_batch_size": None}}}))


def test_a_process_that_the_first_has_started_is_not_the_first(here: Here) -> None:
    config = OmegaConf.create(
        {
            "trainer": {"devices": 2, "num_nodes": 1},
            "hydra": {
                "run": {"dir": "run"},
                "output_subdir": ".hydra",
                "job_logging": {"root": {"handlers": ["console", "file"]}, "handlers": {"file": {}}},
            },
        }
    )
    here(LOCAL_RANK="1")
    OneFolder().on_run_start(config)
    assert not is_first_process()
    assert config.hydra.output_subdir is None


@pytest.mark.parametrize(
    ("variables", "trainer", "words"),
    [
        ({}, {"num_nodes": 2}, "no launcher has started this process"),
        (SLURM, {"devices": 1}, "srun has started 2 processes, and trainer.devices=1 trainer.num_nodes=1 asks for 1"),
        (SLURM | {"SLURM_NTASKS": "1"}, {"devices": 2}, "srun has started 1 process, and"),
        (ELASTIC, {"devices": 2}, "torchrun has started 4 processes"),
        (ELASTIC | {"RANK": "first"}, {"devices": 4}, "the environment has RANK=first: expected a whole number"),
        (SLURM | {"SLURM_NTASKS": ""}, {"devices": 2}, "the environment has SLURM_NTASKS=: expected a whole number"),
        (HAND | {"NODE_RANK": "-1"}, {"num_nodes": 2}, "the environment has NODE_RANK=-1: expected a whole number"),
        (HAND | {"NODE_RANK": "2"}, {"num_nodes": 2}, "NODE_RANK=2 trainer.num_nodes=2: expected .* from 0 to 1"),
    ],
)
def test_another_number_of_processes(
    here: Here, variables: dict[str, str], trainer: dict[str, Any], words: str
) -> None:
    here(**variables)
    with pytest.raises(InputError, match=words):
        launched(trainer)


def connected(port: int) -> socket.socket:
    """Connect to the first process as soon as it listens."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 1)
        time.sleep(0.01)
    pytest.fail("the first process does not listen")


def test_all_get_the_folder_of_the_first(here: Here) -> None:
    """Also if a stranger connects."""
    port = free_port()
    here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    found: dict[int, str] = {}

    def come(rank: int) -> None:
        found[rank] = meet(Launched("by hand", rank, 3), f"/runs/{rank}", patience=20)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in (1, 0)]
    for thread in threads:
        thread.start()
    with connected(port) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n")
    come(2)
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys((0, 1, 2), "/runs/0")
    socket.create_server(("", port)).close()  # free again, for Lightning


@pytest.mark.parametrize("reset", [False, True])
def test_a_process_that_ends_before_all_have_come(here: Here, reset: bool) -> None:
    """Nobody waits for it: the first names it, and tells those that are left."""
    port = free_port()
    here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    said: dict[int, str] = {}

    def come(rank: int) -> None:
        with pytest.raises(InputError) as refused:
            meet(Launched("by hand", rank, 4), f"/runs/{rank}", patience=20)
        said[rank] = str(refused.value)

    first = threading.Thread(target=come, args=(0,))
    first.start()
    with connected(port) as dead:
        dead.sendall(b"1\n")
        if reset:  # as the system does for a process that is killed with unread bytes
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    others = [threading.Thread(target=come, args=(rank,)) for rank in (2, 3)]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert said[0].startswith("process 1 of this job has ended while the processes met")
    assert said[2] == said[3]
    assert said[2].startswith("the first process of this job was refused")


def test_a_process_that_ends_while_all_are_told() -> None:
    """The processes after it learn that the first was refused."""
    pairs = {rank: socket.socketpair() for rank in (1, 2, 3)}
    pairs[1][1].sendall(b"!")  # so that it does not count as closed before
    pairs[1][1].close()

    def told(rank: int) -> str:
        with pairs[rank][1] as connection, connection.makefile() as lines:
            return lines.readline()

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(told, rank) for rank in (2, 3)]
        with (
            pytest.raises(InputError, match="process 1 of this job has ended while the processes met"),
            meeting._telling({rank: pair[0] for rank, pair in pairs.items()}, "/runs/0"),
        ):
            pass
        assert [each.result() for each in found] == ["\n", "\n"]


def test_a_process_that_would_resume_another_run_is_refused(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `latest` can be, which each process looks up by itself."""
    here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), NODE_RANK="1")
    monkeypatch.setattr(sys, "argv", ["train.py", "resume=latest"])
    first = threading.Thread(target=meet, args=(Launched("by hand", 0, 2), "/runs/newest", 20))
    first.start()
    config = OmegaConf.create({"output_dir": str(tmp_path), "trainer": {"devices": 1, "num_nodes": 2}})
    with pytest.raises(InputError, match=f"resume {tmp_path}, and the first .* /runs/newest: .*instead of latest"):
        resume_run(config)
    first.join()
    assert not list(tmp_path.iterdir())


def test_the_store_of_torchrun_ends(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because torchrun ends the job of another process: one line, not the error of torch."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port))
    found: list[str] = []
    connected = threading.Event()

    def come() -> None:
        get = PrefixStore.get

        def noted(*arguments: Any) -> bytes:
            connected.set()
            return get(*arguments)

        monkeypatch.setattr(PrefixStore, "get", noted)
        with pytest.raises(InputError) as refused:
            meet(Launched("torchrun", 1, 2), "/runs/1")
        found.append(str(refused.value))

    waiting = threading.Thread(target=come)
    waiting.start()
    assert connected.wait(20)
    del store
    waiting.join()
    assert re.fullmatch(r"process 1 of this job did not meet .* torchrun, 127.0.0.1:\d+ \(.*\): see which .*", found[0])


@pytest.mark.parametrize(
    ("rank", "address", "words"),
    [
        (0, "127.0.0.1", r"process 1, 2 of this job did not come to 127.0.0.1:\d+ within 0.1 s: expected 3 processes"),
        (1, "127.0.0.1", r"process 1 .* could not reach the first process at 127.0.0.1:\d+ .*refused.*MASTER_ADDR"),
        (1, "nowhere.invalid", "MASTER_ADDR=nowhere.invalid MASTER_PORT="),
        (0, "127.0.0.1:99999", "MASTER_PORT=99999: .* 1 to 65535; expected .* a free port of it"),
        (1, "127.0.0.1:0", "MASTER_PORT=0: .* 1 to 65535; expected .* a free port of it"),
    ],
)
def test_processes_that_do_not_meet(here: Here, rank: int, address: str, words: str) -> None:
    address, _, port = address.partition(":")
    here(MASTER_ADDR=address, MASTER_PORT=port or str(free_port()))
    with pytest.raises(InputError) as refused:
        meet(Launched("by hand", rank, 3), "/runs/0", patience=0.1)
    assert re.search(words, str(refused.value))


def test_a_port_in_use(here: Here) -> None:
    with socket.create_server(("", 0)) as other:
        here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(other.getsockname()[1]))
        with pytest.raises(InputError, match=r"MASTER_PORT=.*in use"):
            meet(Launched("by hand", 0, 2), "/runs/0", patience=5)


@pytest.mark.parametrize("by", ["by hand", "torchrun"])
def test_the_others_end_if_the_first_is_refused(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """By a bad option, so that there is no configuration."""
    port = free_port()
    here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **(ELASTIC | {"RANK": "0"} if by == "torchrun" else {}))
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if by == "torchrun" else None
    found: list[str] = []

    def come(rank: int) -> None:
        with pytest.raises(InputError) as refused:
            meet(Launched(by, rank, 4), "/runs/1", patience=60)
        found.append(str(refused.value))

    threads = [threading.Thread(target=come, args=(rank,)) for rank in (1, 2, 3)]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(meeting, "began", False)
    monkeypatch.setattr(sys, "argv", ["train.py", "trainer.num_nodes=4", "trainer.devices=1", "trainer.max_epoch=1"])
    with pytest.raises(SystemExit) as ended, tells_others():
        sys.exit("error: unknown key trainer.max_epoch")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: unknown key trainer.max_epoch\n"
    for thread in threads:
        thread.join()
    assert found == ["the first process of this job was refused, so this one ends: see the message of the first"] * 3
    del store


@pytest.mark.parametrize(
    ("variables", "line", "waits"),
    [
        ({}, ["trainer.devices=2"], False),
        (HAND, ["trainer.num_nodes=2"], False),  # the second machine
        (HAND | {"NODE_RANK": "0"}, ["trainer.num_nodes=2"], True),
        (SLURM | {"SLURM_PROCID": "0"}, ["-m", "seed=1,2"], False),
        (SLURM | {"SLURM_PROCID": "0"}, ["trainer=ddp", "trainer.devices=2", "ckpt_path=a=b"], True),
        (ELASTIC | {"RANK": "0"}, ["resume=latest"], True),
    ],
)
def test_who_tells_others_that_it_was_refused(
    here: Here, variables: dict[str, str], line: list[str], waits: bool
) -> None:
    here(**variables)
    assert (_first_of_several(line) is not None) == waits


@pytest.mark.parametrize(
    ("variables", "machines", "words"),
    [
        ({}, 1, "resumes the run:"),
        (ELASTIC | {"RANK": "0"}, 2, "resumes the run, started by torchrun as before:"),
        (HAND | {"NODE_RANK": "0"}, 2, "resumes the run, started by hand as before:"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, 1, "resumes the run:"),
    ],
)
def test_how_a_stopped_job_resumes(
    here: Here, caplog: pytest.LogCaptureFixture, tmp_path: Path, variables: dict[str, str], machines: int, words: str
) -> None:
    """By the launcher that has started it: without it, a job of several machines is refused."""
    here(**variables)
    (tmp_path / "config.yaml").touch()
    trainer = {"devices": 2, "num_nodes": machines}
    with caplog.at_level("INFO"):
        _say_how_to_resume(OmegaConf.create({"output_dir": str(tmp_path), "trainer": trainer}))
    assert caplog.messages == [f"stopped; this command {words}"]
