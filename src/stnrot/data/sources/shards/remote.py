"""Shards on a web server. A shard is fetched whole, into a cache of bounded size that all processes share."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from stnrot.data.sources.shards.download import fetch_file
from stnrot.errors import InputError, reason_of
from stnrot.runs.atomic_write import atomic_write


@dataclass(frozen=True)
class RemoteShards:
    """Shards at a URL.

    Args:
        url: of the folder of the shards.
        version: identifies the content of the set; a changed set is fetched again.
        cache: folder of the cache.
        limit: bytes of all files in the cache, beside those being fetched. The files that were not used for longest are
            removed first.
    """

    url: str
    version: str
    cache: Path
    limit: int

    def open(self, name: str, size: int) -> BinaryIO:
        """Open a file, after it was fetched if need be. It can be read also if it is removed from the cache then.

        Raises:
            InputError: if the server does not have it, with `size` bytes.
        """
        path = self.cache / sha256(f"{self.url} {self.version} {name}".encode()).hexdigest()[:40]
        while True:
            if not _is_whole(path, size):
                self._fetch(name, path, size)
            with suppress(FileNotFoundError):  # another process has removed it: fetch it again
                os.utime(path, ns=2 * (time.time_ns(),))  # the newest is removed last; `None` is the time of a tick
                return path.open("rb")

    def place(self, name: str) -> str:
        """Return the URL of a file, for messages."""
        return f"{self.url}/{name}"

    def _fetch(self, name: str, path: Path, size: int) -> None:
        if size > self.limit:
            raise InputError(
                f"data.source.cache_gb={self.limit / 1e9:g}: expected room for {self.place(name)}, "
                f"{size / 1e9:.3g} GB, and more"
            )
        try:
            with FileLock(self.cache / f"{path.name[:2]}.lock"):  # of few names, so that few such files remain
                if _is_whole(path, size):  # fetched by another process meanwhile
                    return
                with atomic_write(path) as new:
                    with FileLock(self.cache / "room.lock"):
                        self._make_room(size)
                        with new.open("wb") as file:
                            file.truncate(size)
                    fetch_file(self.place(name), new, size)
        except OSError as error:
            raise InputError(
                f"cannot write to the cache {self.cache}: {reason_of(error)}; make room, or set XDG_CACHE_HOME to "
                "another folder"
            ) from error

    def _make_room(self, size: int) -> None:
        """Remove files until `size` more bytes keep the limit. Files that are being fetched count and stay."""
        files = []
        for path in self.cache.iterdir():
            with suppress(FileNotFoundError):  # fetched meanwhile, so it has another name
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(length for _, length, _ in files)
        for _, length, path in sorted(files):
            if total + size <= self.limit:
                return
            if path.suffix != ".lock" and not path.name.startswith("."):
                path.unlink(missing_ok=True)
                total -= length


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
