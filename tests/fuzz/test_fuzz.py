"""Mutated files do no harm: each is read, or refused in one line, within 10 s and 2 GiB, and it writes nothing."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT

WORKER = Path(__file__).parent / "worker.py"
# of readers.py and own_readers.py
READERS = (
    *("image", "checkpoint", "published", "manifest", "table", "mesh", "onnx", "shard"),
    *("study", "resumed", "run_folder"),
)
KEPT = Path(__file__).parent / "kept"  # name of the reader, a dash, name of the file: every file that failed once


def outcomes(readers: str, first: object, last: object, folder: Path) -> tuple[list[list[str]], int]:
    """Return reader, number and outcome of each file, the one that ended the process included, and its exit status."""
    line = [sys.executable, str(WORKER), readers, str(first), str(last), str(folder)]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, errors="replace")
    found = [each.split(maxsplit=3)[1:] for each in done.stdout.splitlines() if each.startswith("done ")]
    if done.returncode:
        begun = [each for each in done.stdout.splitlines() if each.startswith("start ")]
        assert begun, done.stderr
        found.append([*begun[-1].split()[1:3], f"ended with {done.returncode}: {done.stderr[-300:]}"])
    return found, done.returncode


def failures(found: list[list[str]]) -> list[str]:
    return [" ".join(each) for each in found if each[2] not in ("read", "refused")]


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_many_mutated_files_do_no_harm(reader: str, tmp_path: Path) -> None:
    folder, found, count = tmp_path / "files", [], 2000
    folder.mkdir()
    while len(found) < count:
        more, _ = outcomes(reader, len(found), count, folder)
        found += more
    assert not failures(found)
    several_calls = reader in ("image", "run_folder")  # each of which may refuse the file
    assert Counter(each[2] for each in found)["read" if several_calls else "refused"] > 0
    assert [each.name for each in tmp_path.iterdir()] == ["files"]


@pytest.mark.ci
def test_mutated_files_do_no_harm(tmp_path: Path) -> None:
    found, status = outcomes(",".join(READERS), 0, 20, tmp_path)
    assert not failures(found)
    assert (len(found), status) == (20 * len(READERS), 0)


@pytest.mark.ci
def test_files_that_failed_once(tmp_path: Path) -> None:
    found, status = outcomes(",".join(READERS), "kept", KEPT, tmp_path)
    assert not failures(found)
    assert (len(found), status) == (len(list(KEPT.iterdir())), 0)
