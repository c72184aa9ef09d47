"""Storages of studies: a database, given by its URL, or a journal file, given by its path."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular
from stnrot.search.journal import open_journal
from stnrot.search.reconnect import Result, ServerStorage, outage_reason, timeouts_of, wait_for

EXPECTED = (
    "expected the URL of a database, such as sqlite:///study.db, or the path of a journal file, such as study.log"
)
CHECK = "check that the server runs, and the host, port, user, password and database in the URL"
KNOWN_ERRORS = (ImportError, SQLAlchemyError, optuna.exceptions.OptunaError, OSError, ValueError)
DRIVERS = {  # the package of a module that SQLAlchemy imports for a URL, where the two names differ
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(location: str) -> BaseStorage:
    """Open the storage, and create it if it does not exist. Two processes must not create a file at the same time."""
    path = file_of(location)
    check_folder(location)
    with input_errors(location):
        if path is None:
            return _open_server(location)
        if _is_url(location):
            return RDBStorage(location)
        return open_journal(path)


def _open_server(location: str, attempts: int = 5) -> ServerStorage:
    """Open the storage on a database server.

    Of processes that create the tables, the version or the revision at the same moment, all but one fail. They try
    again, and find what the one has created.
    """
    try:
        return ServerStorage(_with_driver(location))
    except (IntegrityError, ProgrammingError):
        if attempts == 1:
            raise
    time.sleep(random.random())
    return _open_server(location, attempts - 1)


def when_reachable(location: str, call: Callable[[], Result]) -> Result:
    """Make a call that opens the storage. If it is on a database server, wait for the server."""
    return call() if file_of(location) is not None else wait_for(call)


def check_folder(location: str) -> None:
    """Raise InputError if the storage is a file in a folder that does not exist, or no regular file."""
    path = file_of(location)
    if path is not None and not path.parent.is_dir():
        folder = without_password(str(path.parent))  # of a URL that lacks a slash
        raise InputError(
            f"cannot use the storage {without_password(location)}: there is no folder {folder}; {EXPECTED}"
        )
    if path is not None:
        check_regular(path)


def is_empty(location: str) -> bool:
    """Return whether the storage does not exist, or is being created. Nothing is written.

    Raises:
        InputError: if a file is the database of another program. A database server may hold tables of several programs.
    """
    path = file_of(location)
    if path is not None:
        check_regular(path)
        if not path.exists():
            return True
    if not _is_url(location):
        return False
    with input_errors(location):
        url = _with_driver(location)
        engine = create_engine(url, connect_args=timeouts_of(url))
        tables = inspect(engine).get_table_names()
        if path is not None:
            with engine.connect() as connection:
                _check_schema(connection, path)
        engine.dispose()
    # Optuna creates the table `studies` first and `alembic_version`, which other programs also use, last.
    is_study = "studies" in tables
    if path is not None and tables and not is_study:
        raise InputError(f"{without_password(location)} is the database of another program: {EXPECTED}")
    if not is_study or "alembic_version" not in tables:
        return True
    if "trials" not in tables:  # Optuna would create it
        raise InputError(f"{without_password(location)} has no table of trials: {EXPECTED}")
    return False


def _check_schema(connection: Connection, path: Path) -> None:
    """Raise InputError if a file of SQLite computes what is read from it: such a query can be without end."""
    for kind, name, page in connection.exec_driver_sql("SELECT type, name, rootpage FROM sqlite_master").all():
        stored = kind in ("table", "index") and page  # a view and a virtual table have no page
        quoted = str(name).replace('"', '""')
        columns = connection.exec_driver_sql(f'PRAGMA table_xinfo("{quoted}")').all() if stored else []
        if not stored or any(column[-1] for column in columns):  # hidden: generated
            raise InputError(f"{path} has {name!r:.80}, a {kind} that computes: expected the storage of a search")


def file_of(location: str) -> Path | None:
    """Return the file of the storage; None for a database server."""
    if not _is_url(location):
        return Path(location)
    try:
        url = make_url(location)
    except (SQLAlchemyError, ValueError) as error:  # the second of a port that is no number
        raise InputError(f"{without_password(location)} is not the URL of a database: {EXPECTED}") from error
    if "@" in (url.host or ""):
        raise InputError(f"{without_password(location)}: expected %40 for each @ in the password")
    if url.get_backend_name() != "sqlite":
        return None
    if url.database in (None, "", ":memory:"):
        raise InputError(f"{location} is a database in memory and would end with this process: {EXPECTED}")
    return Path(str(url.database))


def _is_url(location: str) -> bool:
    return "://" in location


def _with_driver(location: str) -> str:
    """Return a URL of PostgreSQL with the driver that SQLAlchemy takes from 2.1 on; 2.0 takes psycopg2."""
    kind, rest = location.split("://", 1)
    return f"postgresql+psycopg://{rest}" if kind == "postgresql" else location


def lock_of(location: str) -> AbstractContextManager[object]:
    """Return a lock that one process at a time can hold. A database server needs none: it locks rows itself.

    SQLite does not lock between a read and the write that follows, so two processes could start the same waiting trial.
    """
    path = file_of(location)
    return nullcontext() if path is None else FileLock(path.with_name(f".{path.name}.claim"))


def without_password(location: str) -> str:
    """Return the location with the password replaced by `***`, also in a URL that is wrong.

    >>> without_password("postgresql://me:se@cret@host:x/name"), without_password("mysql://host/name?password=secret")
    ('postgresql://me:***@host:x/name', 'mysql://host/name?password=***')
    """
    location = re.sub(r"(:/+[^:/@]*:).*@", r"\1***@", location)
    return re.sub(r"(?i)([?&][^=&]*passw[^=&]*=)[^&]*", r"\1***", location)


@contextmanager
def input_errors(location: str) -> Iterator[None]:
    """Turn an error of the storage into an InputError. What a file from anyone holds can raise almost anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        # SQLAlchemy's error has that of the driver as its cause, whose text says what is wrong
        known = isinstance(cause, KNOWN_ERRORS) or isinstance(error, SQLAlchemyError)
        reason = reason_of(cause) if known else f"it is damaged ({type(cause).__name__}: {reason_of(cause)})"
        where = without_password(location)
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            module = cause.name.partition(".")[0]
            install = f"its driver is not installed: pip install {DRIVERS.get(module, module)}"
            raise InputError(f"cannot use the storage {where}: {install} ({reason})") from error
        remedy = EXPECTED if outage_reason(error) is None or file_of(location) else CHECK
        raise InputError(f"cannot use the storage {where}: {reason}; {remedy}") from error
