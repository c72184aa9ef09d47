"""The CPU cores and the memory that this process may use: all of the machine's, or fewer in a container or SLURM job.

The limits of a container are those of its cgroups, version 1 or 2. Those of a SLURM job are environment variables.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path("/")  # folder of /proc and /sys
UNKNOWN_MEMORY = 8 * 2**30  # bytes; assumed where the system does not give its size
MIB = 2**20


def allowed_cores(root: Path = ROOT) -> int:
    """Return the number of CPU cores that this process may use, at least 1.

    It is the smallest of three numbers: the cores that the scheduler gives the process (its affinity), the CPU quota of
    its cgroups, rounded up, and the cores of its SLURM task.
    """
    limits = [_affinity(), *_slurm("SLURM_CPUS_PER_TASK")]
    for folder in _cgroups("cpu", root):
        limit = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(limit) == 2 and all(word.isdecimal() for word in limit):  # unlimited: max, or -1
            limits.append(math.ceil(int(limit[0]) / int(limit[1])))  # microseconds of computing in a period
    return max(1, min(limits))


def allowed_memory(root: Path = ROOT) -> int:
    """Return the memory that this process may use, in bytes.

    It is the smallest of three numbers: the memory of the machine, the limit of its cgroups, and the memory of its
    SLURM job on this machine.
    """
    limits = [_physical_memory(), *(MIB * size for size in _slurm("SLURM_MEM_PER_NODE"))]
    limits += [MIB * size * allowed_cores(root) for size in _slurm("SLURM_MEM_PER_CPU")]
    for folder in _cgroups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(folder / name) if word.isdecimal()]  # unlimited: max
    return min(limits)


def thread_pool() -> ThreadPoolExecutor:
    """Return a pool that reads files: Python's usual number of threads, counted from the allowed cores."""
    return ThreadPoolExecutor(min(32, allowed_cores() + 4))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return UNKNOWN_MEMORY


def _slurm(name: str) -> list[int]:
    """Return the limit of an environment variable of SLURM, or none. 0 stands for the whole machine."""
    text = os.environ.get(name, "")
    return [int(text)] if text.isdecimal() and int(text) > 0 else []


def _cgroups(controller: str, root: Path) -> list[Path]:
    """Return the folders that can limit this process: those of its cgroups and of all cgroups above them.

    In a container /proc can give the path on the host, which does not exist in the container. The top folder then holds
    the limits of the container.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()  # number:controllers:path
    except OSError:
        return []
    top, folders = root / "sys/fs/cgroup", []
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for base in [top / controller] if controllers else [top, top / "unified"]:  # version 1, or version 2
            folders += [base.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return folders


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
