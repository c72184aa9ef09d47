"""The peak of the memory that a call takes."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(call: Callable[[], object], device: str) -> float | None:
    """Return the peak of the memory during a call beyond the memory before it, in MiB; None where it is not known.

    On a GPU it is the memory of tensors. On a CPU it is the resident memory of the process, which is known on Linux
    alone. Make the same call once before: what a library loads or keeps at its first use is then not counted.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that is free but still resident would be used first
        RESET.write_text("5")  # the peak is the present value
    except (OSError, AttributeError):  # not on Linux, or not allowed
        return None
    before = _resident("VmRSS")
    call()
    return (_resident("VmHWM") - before) / 2**10


def _resident(name: str) -> int:
    """Return a line of the status of this process, in KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
