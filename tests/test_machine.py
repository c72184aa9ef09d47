"""Limits of containers and SLURM jobs: in folders made like those of /proc and /sys, and for a real process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stnrot.machine import allowed_cores, allowed_memory, thread_pool

GIB = 2**30
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU")


@pytest.fixture(autouse=True)
def _big_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores, 512 GiB, no SLURM."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**27}.__getitem__, raising=False)
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Write /proc/self/cgroup, and files below /sys/fs/cgroup."""
    for path, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cores", "memory"),
    [
        # version 2: the root of a container, a quota of 1.5 cores, no limit
        ("0::/", {"cpu.max": "400000 100000", "memory.max": str(2 * GIB)}, 4, 2 * GIB),
        ("0::/", {"cpu.max": "150000 100000"}, 2, 512 * GIB),
        ("0::/", {"cpu.max": "1000 100000"}, 1, 512 * GIB),
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, 64, 512 * GIB),
        # a limit further up
        (
            "0::/job/step/task",
            {"job/cpu.max": "800000 100000", "job/step/cpu.max": "max 100000", "job/memory.max": str(3 * GIB)},
            8,
            3 * GIB,
        ),
        ("0::/job/task", {"job/task/memory.max": str(GIB), "job/memory.max": str(3 * GIB)}, 64, GIB),
        # another job's
        ("0::/job", {"other/cpu.max": "100000 100000", "other/memory.max": "5"}, 64, 512 * GIB),
        # version 1, its numbers for no limit, and the path on the host
        (
            "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc",
            {
                "cpu/cpu.cfs_quota_us": "300000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": str(6 * GIB),
            },
            3,
            6 * GIB,
        ),
        (
            "5:cpu:/a\n4:memory:/a",
            {
                "cpu/a/cpu.cfs_quota_us": "-1",
                "cpu/a/cpu.cfs_period_us": "100000",
                "memory/a/memory.limit_in_bytes": "9223372036854771712",
            },
            64,
            512 * GIB,
        ),
        # both versions at once, a path that leads out of a namespace, a name with a colon
        ("1:name=systemd:/x\n0::/a:b", {"unified/a:b/cpu.max": "200000 100000"}, 2, 512 * GIB),
        ("0::/../../a", {"a/memory.max": str(GIB)}, 64, GIB),
    ],
)
def test_cgroups(tmp_path: Path, cgroup: str, files: dict[str, str], cores: int, memory: int) -> None:
    root = system(tmp_path, cgroup, files)
    assert (allowed_cores(root), allowed_memory(root)) == (cores, memory)


def test_without_limits_and_without_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (allowed_cores(tmp_path), allowed_memory(tmp_path)) == (64, 512 * GIB)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert allowed_cores(tmp_path) == 6
    assert allowed_memory(tmp_path) == 8 * GIB
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert allowed_cores(tmp_path) == 1


def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    assert (allowed_cores(tmp_path), allowed_memory(tmp_path)) == (5, 4 * GIB)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # --mem=0: all memory of the machine
    assert allowed_memory(tmp_path) == 512 * GIB
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1024")
    assert allowed_memory(tmp_path) == 5 * GIB
    system(tmp_path, "0::/", {"cpu.max": "200000 100000"})
    assert (allowed_cores(tmp_path), allowed_memory(tmp_path)) == (2, 2 * GIB)


def test_threads_follow_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with thread_pool() as pool:
        assert pool._max_workers == 5


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_a_real_process_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    core = str(min(os.sched_getaffinity(0)))
    code = "from stnrot.machine import allowed_cores, allowed_memory; print(allowed_cores(), allowed_memory() > 0)"
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "True"]
