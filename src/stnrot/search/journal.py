"""Journal files: studies in a file on a disk that several machines may share."""

import errno
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from stnrot.errors import InputError

GRACE_PERIOD = 30.0  # seconds after which the lock of a process that was killed while it wrote is removed


class JournalLock(JournalFileOpenLock):
    """The lock that is held to write: a file that only one process can create.

    Optuna's default lock is a symbolic link of the same name, so both exclude each other. It needs a disk that has
    symbolic links. Both of Optuna's locks fail on sshfs, which says "not permitted" where the file exists.

    Args:
        path: the journal.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.file = path.with_name(f"{path.name}.lock")

    def acquire(self) -> bool:
        """Wait until this process holds the lock."""
        pause, seen, since = 0.001, self._held_since(), time.monotonic()
        while not self._is_created():
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
            if (now := self._held_since()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > GRACE_PERIOD:
                if now is None:  # a folder in which no file can be created
                    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(self.file))
                with suppress(RuntimeError):  # another process has removed it
                    self.release()
        return True

    def _is_created(self) -> bool:
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.EPERM):
                return False
            raise
        return True

    def _held_since(self) -> int | None:
        """Return the time of the lock, by the clock of the disk, or None if there is no lock."""
        try:
            return self.file.lstat().st_mtime_ns
        except FileNotFoundError:
            return None


def open_journal(path: Path) -> JournalStorage:
    """Open the journal, and create it if it does not exist.

    Raises:
        InputError: if the path of a database was given instead of its URL.
        ValueError: if the file is not a journal.
    """
    if path.is_file():
        lines = path.read_bytes()
        _check(path, lines)
        if not _is_complete(lines):
            _repair(path)
    return JournalStorage(JournalFileBackend(str(path), JournalLock(path)))


def _check(path: Path, lines: bytes) -> None:
    if lines.startswith(b"SQLite"):
        raise InputError(
            f"cannot use the storage {path}: it is a database of SQLite; expected its URL, sqlite:///{path}"
        )
    if lines:
        entry = json.loads(lines.partition(b"\n")[0])
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise ValueError("its first line is not that of a journal")


def _is_complete(lines: bytes) -> bool:
    return not lines or lines.endswith(b"\n")


def _repair(path: Path) -> None:
    """Cut off an incomplete last line, as a power cut leaves it. Optuna would append to that line.

    A shared disk may show the file as it was seconds ago. It ends with a complete line then, and must not be cut there.
    """
    lock = JournalLock(path)
    lock.acquire()
    try:
        with path.open("r+b") as file:
            lines = file.read()
            if not _is_complete(lines):
                file.truncate(lines.rfind(b"\n") + 1)
    finally:
        lock.release()
