"""The Python in the documents runs as it stands, block after block."""

import re
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.parametrize("name", ["README.md", "docs/explanation/pose_by_gradient.md"])
def test_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 1
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)
