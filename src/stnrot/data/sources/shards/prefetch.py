"""Fetch the shards of a web server while the images of others are read."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event, Thread

from torch import Tensor

from stnrot.data.batch_samplers import Batches
from stnrot.data.sources.shards.info import SplitInfo
from stnrot.data.sources.shards.remote import RemoteShards
from stnrot.errors import InputError


@dataclass(frozen=True, eq=False)
class Prefetched:
    """Batches of counters, and a thread that fetches the shards of those that come next.

    The thread looks ahead as far as all shards fit into its room. At each batch it opens them all: the cache first
    removes what was not opened for longest. An error ends the thread. It is raised again where the shard is read.

    Args:
        batches: the share of this process.
        shards: returns the shards of a batch, by their numbers in `split`.
        room: bytes of the cache that this process may fill.
        most: looks no further ahead than to so many shards.
        behind: number of batches that were yielded and may not be read yet.
    """

    batches: Batches
    shards: Callable[[Tensor], list[int]]
    store: RemoteShards
    split: SplitInfo
    room: int
    most: int
    behind: int

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        coming = iter(self.batches)
        ahead, passed = deque[tuple[Tensor, list[int]]](), deque[list[int]]()
        seen = Counter[int]()  # in how many of these batches a shard is, in the order of the first use
        bytes_seen = 0
        view, news, stop = deque[list[int]](maxlen=1), Event(), Event()
        Thread(target=self._fetch, args=(view, news, stop), daemon=True, name="prefetch").start()
        try:
            while True:
                while not ahead or (bytes_seen <= self.room and len(seen) < self.most):
                    if (batch := next(coming, None)) is None:
                        break
                    ahead.append((batch, self.shards(batch)))
                    bytes_seen += sum(self.split.shard_bytes[shard] for shard in ahead[-1][1] if shard not in seen)
                    seen.update(ahead[-1][1])
                if not ahead:
                    return
                view.append([*seen])
                news.set()
                batch, shards = ahead.popleft()
                passed.append(shards)
                yield batch
                for shard in passed.popleft() if len(passed) > self.behind else ():
                    seen[shard] -= 1
                    if not seen[shard]:
                        del seen[shard]
                        bytes_seen -= self.split.shard_bytes[shard]
        finally:
            stop.set()
            news.set()

    def _fetch(self, view: deque[list[int]], news: Event, stop: Event) -> None:
        """Open the shards of the newest view, whenever there is one."""
        while news.wait():
            news.clear()
            if stop.is_set():
                return
            left = self.room
            for shard in view[-1]:
                name, size = self.split.filenames[shard], self.split.shard_bytes[shard]
                left -= size
                if left < 0 or stop.is_set() or news.is_set():  # in a newer view a shard may have been passed
                    break
                try:
                    self.store.open(name, size).close()
                except (InputError, OSError):
                    return
