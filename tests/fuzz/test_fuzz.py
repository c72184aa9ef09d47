"""Mutated files do no harm: each is read, or refused in one line, within 10 s and 2 GiB, and it writes nothing."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT

WORKER = Path(__file__).parent / "worker.py"
READERS = ("image", "checkpoint", "published", "manifest", "table", "mesh", "onnx")  # of readers.py
KEPT = Path(__file__).parent / "kept"  # NAME of the reader, a dash, name of the file: every file that failed once


def outcomes(reader: str, first: object, last: object, folder: Path) -> tuple[list[str], int]:
    """Return what became of each file, without those after the last one that was begun, and the exit status."""
    line = [sys.executable, str(WORKER), reader, str(first), str(last), str(folder)]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, errors="replace")
    found = [each for each in done.stdout.splitlines() if each.startswith(("start ", "done ", "refused whole"))]
    assert found or done.returncode == 0, done.stderr
    return found, done.returncode


def fuzzed(reader: str, count: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Read `count` mutated files; return how many ended how, and the failures."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    first = 0
    while first < count:
        found, status = outcomes(reader, first, count, folder)
        done = [each.split(maxsplit=2) for each in found if each.startswith("done ")]
        for _, number, outcome in done:
            kind = outcome.split()[0]
            counts[kind] += 1
            if kind not in ("read", "refused"):
                failures.append(f"{reader} {number}: {outcome}")
        begun = [int(each.split()[1]) for each in found if each.startswith("start ")]
        first = begun[-1] + 1 if begun else count
        if status:
            counts["ended"] += 1
            failures.append(f"{reader} {first - 1}: the process ended with {status}")
    return counts, failures


@pytest.mark.parametrize("count", [pytest.param(150, marks=pytest.mark.ci), pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reader", READERS)
def test_mutated_files_do_no_harm(reader: str, count: int, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    counts, failures = fuzzed(reader, count, folder)
    print(reader, dict(counts))
    assert not failures, "\n".join(failures)
    assert counts["refused"] > 0
    assert counts.total() == count
    assert [each.name for each in tmp_path.iterdir()] == ["files"]


@pytest.mark.ci
@pytest.mark.parametrize("file", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_files_that_failed_once(file: Path, tmp_path: Path) -> None:
    found, status = outcomes(file.name.partition("-")[0], "kept", file, tmp_path)
    assert status == 0
    assert found[-1].split()[2] in ("read", "refused")
