"""Imports run one way: the contracts stand in pyproject.toml, under [tool.importlinter]."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_imports_run_one_way() -> None:
    # in a process of its own: it switches off all loggers of its process
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
