"""Facts about the machine and the software that a measurement depends on."""

import os
import platform
import re
import subprocess
from pathlib import Path

import torch

Facts = dict[str, str | int | float]


def environment(device: str) -> Facts:
    """Return the version of torch, the number of threads, the processor and, if `device` is "cuda", the GPU."""
    facts: Facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": processor()}
    return facts | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def processor() -> str:
    """Return the name of the processor by lscpu, /proc/cpuinfo or the platform, the first that has one."""
    try:
        command = ["lscpu"]
        lscpu = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
        sources = [lscpu.stdout]
    except (OSError, subprocess.CalledProcessError):  # not on Linux
        sources = []
    cpuinfo = Path("/proc/cpuinfo")
    sources += [cpuinfo.read_text()] if cpuinfo.exists() else []
    for text in sources:
        if name := re.search(r"^model name[ \t]*:[ \t]*(\S.*)$", text, re.IGNORECASE | re.MULTILINE):
            return name[1].strip()
    return platform.processor() or platform.machine()
