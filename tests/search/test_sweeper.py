"""The plugin of Hydra: programs that do not search import nothing heavy."""

import subprocess
import sys
from pathlib import Path

from conftest import ENVIRONMENT

PROGRAM = """
import sys

sys.modules["torch"] = sys.modules["optuna"] = None  # an import of them raises an ImportError, and Hydra would warn

import hydra
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def program(config: DictConfig) -> None:
    assert "hydra_plugins.stnrot_optuna" in sys.modules
    assert "OptunaSweeper" in [found.__name__ for found in Plugins.instance().discover(Sweeper)]
    print([name for name in sys.modules if name.partition(".")[0] == "stnrot"])


program()
"""


def test_a_program_with_hydra_imports_neither_torch_nor_optuna(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-W", "error", "program.py", "hydra.run.dir=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[]\n"
