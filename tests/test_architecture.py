"""Imports run one way: the contracts stand in pyproject.toml, under [tool.importlinter]."""

import pytest
from conftest import ROOT
from importlinter.cli import lint_imports


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out
