"""`--help` shows examples that work, and every group of options."""

import re
import shlex

import pytest
from conftest import ROOT, command, composed


@pytest.mark.ci
@pytest.mark.parametrize("job", ["train", "evaluate"])
def test_help_shows_examples_that_compose(job: str) -> None:
    done = command(f"{job}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: python {job}.py" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 160
    (examples,) = re.findall(r"examples:\n(.*?)\n\n", done.stdout, re.DOTALL)
    lines = [line for line in examples.splitlines() if line.startswith(f"  python {job}.py")]
    assert len(lines) >= 3
    for line in lines:
        options = [word for word in shlex.split(re.split(r" {3,}", line.strip())[0])[2:] if word != "-m"]
        composed(job, *(option.split(",")[0] for option in options))
    if job == "train":
        for group in (path for path in (ROOT / "configs").iterdir() if path.is_dir() and path.name != "hydra"):
            assert f"\n{group.name}: " in done.stdout
