"""The lock of a journal."""

import os
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock

from stnrot.search import journal
from stnrot.search.journal import JournalLock, open_journal


def test_the_lock_of_a_killed_process_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GRACE_PERIOD", 0.05)
    JournalLock(tmp_path / "study.log").acquire()
    lock = JournalLock(tmp_path / "study.log")
    begin = time.monotonic()
    assert lock.acquire()
    assert time.monotonic() - begin > 0.05
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_optunas_lock_and_this_one_exclude_each_other(tmp_path: Path) -> None:
    """Processes of earlier versions have that lock."""
    lock = JournalLock(tmp_path / "study.log")
    assert lock._is_created()
    assert not lock._is_created()
    with pytest.raises(FileExistsError):
        os.symlink("study.log", lock.file)
    lock.release()
    JournalFileSymlinkLock(str(tmp_path / "study.log")).acquire()
    assert not lock._is_created()


def test_a_disk_that_says_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does sshfs where the file exists. Without the file, no file can be created there."""

    def not_permitted(*arguments: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(journal, "GRACE_PERIOD", 0.05)
    monkeypatch.setattr(os, "open", not_permitted)
    with pytest.raises(PermissionError, match=r"not permitted: .*study.log.lock"):
        JournalLock(tmp_path / "study.log").acquire()


@pytest.mark.parametrize("seen", [0.0, 0.5, 0.8])
def test_a_shared_disk_that_shows_the_journal_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: float
) -> None:
    """Two mounts of sshfs did: an entry that another machine had written was cut off as if it were incomplete."""
    path = tmp_path / "study.log"
    for name in ("a", "b"):
        optuna.create_study(study_name=name, storage=open_journal(path))
    before = path.read_bytes()
    monkeypatch.setattr(Path, "read_bytes", lambda self: before[: int(seen * len(before))])
    open_journal(path)
    assert path.read_text() == before.decode()
