"""Where studies lie: a database, named by its URL, or a journal file, named by its path."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from stnrot.errors import InputError

EXPECTED = (
    "expected the URL of a database, such as sqlite:///study.db, or the path of a journal file, such as study.log"
)
STORAGE_ERRORS = (
    ImportError,
    SQLAlchemyError,
    optuna.exceptions.OptunaError,
    RuntimeError,
    OSError,
    ValueError,
    LookupError,
)
DRIVERS = {  # modules that SQLAlchemy imports for a URL, whose packages are called otherwise
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(place: str) -> BaseStorage:
    """Open the storage; make it if there is none, which two processes must not at once."""
    path = file_of(place)
    check_folder(place)
    with reaching(place):
        if path is None or _is_url(place):
            return RDBStorage(place)
        _mend(path)
        return JournalStorage(JournalFileBackend(place))


def check_folder(place: str) -> None:
    """Refuse a file in a folder that is not there."""
    path = file_of(place)
    if path is not None and not path.parent.is_dir():
        raise InputError(f"cannot use the storage {place}: there is no folder {path.parent}; {EXPECTED}")


def is_empty(place: str) -> bool:
    """Say whether there is no storage yet, or one that is being made; nothing is written.

    Raises:
        InputError: if a file is the database of another program. A server may hold the tables of several.
    """
    path = file_of(place)
    if path is not None and not path.exists():
        return True
    if not _is_url(place):
        return False
    with reaching(place):
        engine = create_engine(place)
        tables = inspect(engine).get_table_names()
        engine.dispose()
    ours = "studies" in tables  # the first that Optuna makes; alembic_version, which others have too, is the last
    if path is not None and tables and not ours:
        raise InputError(f"{shown(place)} is the database of another program: {EXPECTED}")
    return not ours or "alembic_version" not in tables


def file_of(place: str) -> Path | None:
    """Return the file that the storage is; None if it is a server."""
    if not _is_url(place):
        return Path(place)
    try:
        url = make_url(place)
    except SQLAlchemyError as error:
        raise InputError(f"{shown(place)} is not the URL of a database: {EXPECTED}") from error
    if url.get_backend_name() != "sqlite":
        return None
    if url.database in (None, "", ":memory:"):
        raise InputError(f"{place} lies in the memory of one process and would not survive it: {EXPECTED}")
    return Path(str(url.database))


def _is_url(place: str) -> bool:
    return "://" in place


def lock_of(place: str) -> AbstractContextManager[object]:
    """Return what one process at a time can hold; a server has locks of its own.

    SQLite has none between reading and writing, so that two processes could take one waiting trial.
    """
    path = file_of(place)
    return nullcontext() if path is None else FileLock(path.with_name(f".{path.name}.claim"))


def shown(place: str) -> str:
    """Return the name without the password in it."""
    try:
        return make_url(place).render_as_string(hide_password=True) if _is_url(place) else place
    except SQLAlchemyError:
        return place.partition("://")[0] + "://..."


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Turn the errors of a storage that cannot be used into an InputError."""
    try:
        yield
    except STORAGE_ERRORS as error:
        cause = error.__cause__ or error
        reason = str(cause).splitlines()[0]
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            driver = cause.name.partition(".")[0]
            wanted = f"its driver is not installed: pip install {DRIVERS.get(driver, driver)}"
            raise InputError(f"cannot use the storage {shown(place)}: {wanted} ({reason})") from error
        raise InputError(f"cannot use the storage {shown(place)}: {reason}; {EXPECTED}") from error


def _mend(path: Path) -> None:
    """Cut off the last line of a journal if it was half written when the power went: the next would be glued to it."""
    if not path.exists() or _whole(path) == path.stat().st_size:
        return
    lock = JournalFileSymlinkLock(str(path))  # that of those who write
    lock.acquire()
    try:
        with path.open("r+b") as file:
            file.truncate(_whole(path))
    finally:
        lock.release()


def _whole(path: Path) -> int:
    """Return the size of the whole lines; what is no journal is a ValueError."""
    lines = path.read_bytes()
    if lines:
        json.loads(lines.partition(b"\n")[0])
    return lines.rfind(b"\n") + 1
