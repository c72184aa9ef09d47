"""Fetch a file from a web server. An interrupted transfer continues where it broke off, if the server can do that."""

import time
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from stnrot.errors import InputError, reason_of

TRIES = 4
WAIT = 1.0  # seconds before the second try; doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 2**20  # bytes
TRY_AGAIN = (408, 425, 429)  # statuses of a server that is busy; and those from 500 on


def fetch_text(url: str, most: int) -> bytes:
    """Return a small file of a server.

    Raises:
        InputError: if it has more than `most` bytes, or cannot be read.
    """
    for attempt in range(TRIES):
        _pause(attempt)
        try:
            with _opened(url, {}) as answer:
                found = answer.read(most + 1)
                length = answer.headers.get("Content-Length", "")
        except (OSError, HTTPException, ValueError) as error:
            reason = _reason(url, error)
            continue
        if len(found) > most:
            raise InputError(f"{url} has more than {most} bytes: expected a file that stnrot shards wrote")
        if not length.isdecimal() or len(found) == int(length):
            return found
        reason = f"the connection ended after {len(found)} of {int(length)} bytes"
    raise InputError(f"cannot read {url}: {reason}; check the address and the server")


def fetch_file(url: str, new: Path, size: int) -> None:
    """Write a file of a server to the path `new`, which has `size` bytes already, reserved for it.

    Raises:
        InputError: if the server has no such file, or one of another size, or does not answer several times.
    """
    done = 0
    with new.open("r+b") as file:
        for attempt in range(TRIES):
            _pause(attempt)
            try:
                done = _continue(url, file, done, size)
            except (OSError, HTTPException, ValueError) as error:
                reason, done = _reason(url, error), file.tell()
                continue
            if done == size:
                return
            reason = f"the connection ended after {done} of {size} bytes"
    raise InputError(f"cannot read {url}: {reason}; check the server, then start again")


def _continue(url: str, file: BinaryIO, done: int, size: int) -> int:
    """Write what follows the first `done` bytes; return how many there are then."""
    file.seek(done)
    with _opened(url, {"Range": f"bytes={done}-"} if done else {}) as answer:
        if done and answer.status != 206:  # the server sends the whole file again
            done = file.seek(0)
        part = answer.headers.get("Content-Range")
        if done and part is not None and not part.startswith(f"bytes {done}-"):
            file.seek(0)
            raise HTTPException(f"asked for the bytes from {done} on, it sends {part}")
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and done + int(length) != size:
            raise _other_size(url, done + int(length), size)
        while block := answer.read(BLOCK):
            if file.tell() + len(block) > size:
                raise _other_size(url, file.tell() + len(block), size)
            file.write(block)
    return file.tell()


def _other_size(url: str, found: int, size: int) -> InputError:
    return InputError(
        f"{url} has {found} bytes: expected {size}; the shard is cut off, or of another set: copy it again"
    )


def _opened(url: str, headers: dict[str, str]) -> HTTPResponse:
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except (ValueError, InvalidURL) as error:  # urllib needs %20 for a space
        raise InputError(
            f"{url} is no address of a file: {reason_of(error)}; expected letters, digits and %xx"
        ) from error


def _reason(url: str, error: Exception) -> str:
    """Return why a transfer failed. Raise InputError if another try would not help."""
    if isinstance(error, InputError):
        raise error
    if isinstance(error, HTTPError):
        reason = f"HTTP {error.code} {error.reason}"
        if error.code < 500 and error.code not in TRY_AGAIN:
            raise InputError(f"cannot read {url}: {reason}; expected the address of shards of stnrot shards") from error
        return reason
    cause = error.reason if isinstance(error, URLError) else error
    return reason_of(cause) if isinstance(cause, Exception) else str(cause)


def _pause(attempt: int) -> None:
    if attempt:
        time.sleep(WAIT * 2 ** (attempt - 1))
