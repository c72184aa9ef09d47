"""A database server that is out of reach for a while: wait, and repeat the call that failed."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from types import FunctionType
from typing import Any, TypeVar

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.pool import NullPool

from stnrot.errors import InputError, reason_of

log = logging.getLogger("search")
Result = TypeVar("Result")

WAIT = 600.0  # seconds until a process gives the database up
LOST_BEFORE = "8s2b"  # SQLAlchemy's code of a call on a connection whose loss the caller has ignored; Optuna does
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts: the pause doubles each time
# seconds until an attempt to connect, or a call without an answer, has failed; libpq would wait for minutes
TIMEOUTS = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000}  # the last in milliseconds


def timeouts_of(url: str) -> dict[str, int]:
    """Return `TIMEOUTS` as options of a connection, without those that the URL sets; none for other drivers."""
    parsed = make_url(url)
    libpq = parsed.get_driver_name() in ("psycopg", "psycopg2")
    return {name: value for name, value in TIMEOUTS.items() if libpq and name not in parsed.query}


class _Here(threading.local):
    """What differs between threads."""

    waits = True


class _Process:
    """What all threads and all storages of this process share."""

    last_failure = -math.inf
    has_given_up = False


_here = _Here()


def last_failure() -> float:
    """Return when this process last found the database out of reach, on the monotonic clock; -inf if never."""
    return _Process.last_failure


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let the calls of this thread fail at once inside."""
    before, _here.waits = _here.waits, False
    try:
        yield
    finally:
        _here.waits = before


def wait_for(call: Callable[[], Result]) -> Result:
    """Make a call to a database server. While the server is out of reach, wait and repeat the call.

    Raises:
        InputError: if the server does not come back within `WAIT`. Further calls of this process do not wait.
    """
    begin, pause = time.monotonic(), PAUSE
    while True:
        try:
            with no_waiting():  # of the calls within this one
                result = call()
            break
        except Exception as error:
            _wait(error, begin, pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    if pause > PAUSE:
        log.warning("the database answers again after %.0f seconds", time.monotonic() - begin)
    return result


def _wait(error: Exception, begin: float, pause: float) -> None:
    """Wait if the error is an outage; raise it otherwise."""
    reason = outage_reason(error)
    if reason is None:
        raise error
    _Process.last_failure = time.monotonic()
    if not _here.waits:
        raise error
    if _Process.has_given_up or time.monotonic() - begin > WAIT:
        _Process.has_given_up = True
        raise InputError(
            f"the database of the study was out of reach for {WAIT / 60:.0f} minutes: {reason}; "
            "run the same command again to resume"
        ) from error
    if pause == PAUSE:
        log.warning("the database is out of reach, waiting up to %.0f minutes: %s", WAIT / 60, reason)
    try:
        time.sleep(pause)
    except BaseException:  # an interrupt: this process ends, so none of its calls waits any more
        _Process.has_given_up = True
        raise


def outage_reason(error: BaseException | None) -> str | None:
    """Return why the server is out of reach, or None for any other error."""
    while error is not None:
        if isinstance(error, OperationalError | InterfaceError):
            return reason_of(error.orig or error)
        if isinstance(error, PendingRollbackError) and error.code == LOST_BEFORE:
            return reason_of(error)
        error = error.__cause__
    return None


class ServerStorage(RDBStorage):
    """The storage on a database server. Each of its methods waits for the server, the constructor does not.

    A method is repeated from its start. If its transaction had been committed, and only the answer was lost, the
    repetition changes nothing, with two exceptions: a new trial is created once more, and a waiting trial that was
    taken stays taken. Such a trial has no heartbeat, so it is retried like that of a dead process, see `StaleTrials`.

    A connection lasts for one call: hundreds of processes that train do not occupy the connections of the server.

    Args:
        url: URL of the database.
    """

    def __init__(self, url: str) -> None:
        options = {"poolclass": NullPool, "connect_args": timeouts_of(url)}
        super().__init__(url.replace("{", "{{").replace("}", "}}"), engine_kwargs=options)  # Optuna formats the URL

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state of a trial; a finished trial may be given its own state and values once more."""
        try:
            return super().set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            stored = self.get_trial(trial_id)
            if (stored.state, stored.values) != (state, None if values is None else list(values)):
                raise
            return True


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        return wait_for(partial(method, *arguments, **options))

    return call


for _name, _method in vars(RDBStorage).items():  # also private ones, which Optuna's cache of a storage calls
    if isinstance(_method, FunctionType) and not _name.startswith("__"):
        setattr(ServerStorage, _name, _waiting(getattr(ServerStorage, _name)))
