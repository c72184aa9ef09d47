"""The processes of a job meet, or say in one line why not."""

import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import free_port

from stnrot.errors import InputError
from stnrot.runs.processes.launched import Launched, launched
from stnrot.runs.processes.meeting import meet

STARTED = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "17", "RANK": "3", "WORLD_SIZE": "4"}
HAND = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "NODE_RANK": "1"}
Here = Callable[..., None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Set the variables by which a process sees how it was started."""
    for name in (*STARTED, *SLURM, "SLURM_JOB_NAME"):
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


@pytest.mark.parametrize(
    ("variables", "trainer", "words"),
    [
        ({}, {"num_nodes": 2}, "no launcher has started this process"),
        (SLURM, {"devices": 1}, "srun has started 2 processes, and trainer.devices=1 trainer.num_nodes=1 asks for 1"),
        (SLURM | {"SLURM_NTASKS": "1"}, {"devices": 2}, "srun has started 1 process, and"),
        (ELASTIC, {"devices": 2}, "torchrun has started 4 processes"),
    ],
)
def test_another_number_of_processes(
    here: Here, variables: dict[str, str], trainer: dict[str, Any], words: str
) -> None:
    here(**variables)
    with pytest.raises(InputError, match=words):
        launched(trainer)


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
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n")
            break
        except OSError:
            continue
    come(2)
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys((0, 1, 2), "/runs/0")
    socket.create_server(("", port)).close()  # free again, for Lightning


@pytest.mark.parametrize(
    ("rank", "address", "words"),
    [
        (0, "127.0.0.1", r"process 1, 2 of this job did not come to 127.0.0.1:\d+ within 0.1 s: expected 3 processes"),
        (1, "127.0.0.1", r"process 1 .* could not reach the first process at 127.0.0.1:\d+ .*refused.*MASTER_ADDR"),
        (1, "nowhere.invalid", "MASTER_ADDR=nowhere.invalid MASTER_PORT="),
    ],
)
def test_processes_that_do_not_meet(here: Here, rank: int, address: str, words: str) -> None:
    here(MASTER_ADDR=address, MASTER_PORT=str(free_port()))
    with pytest.raises(InputError) as refused:
        meet(Launched("by hand", rank, 3), "/runs/0", patience=0.1)
    assert re.search(words, str(refused.value))


def test_a_port_in_use(here: Here) -> None:
    with socket.create_server(("", 0)) as other:
        here(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(other.getsockname()[1]))
        with pytest.raises(InputError, match=r"MASTER_PORT=.*in use"):
            meet(Launched("by hand", 0, 2), "/runs/0", patience=5)
