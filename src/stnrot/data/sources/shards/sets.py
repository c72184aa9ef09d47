"""Open a set of shards: in a folder, with an index or without, or at a URL."""

import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.shards.cached_index import cached_index
from stnrot.data.sources.shards.download import fetch_text
from stnrot.data.sources.shards.index import index_bytes, index_name, read_index
from stnrot.data.sources.shards.info import INFO, ShardInfo, read_info
from stnrot.data.sources.shards.local import LocalShards
from stnrot.data.sources.shards.remote import RemoteShards
from stnrot.data.sources.shards.scan import shards_of
from stnrot.data.sources.shards.shard_set import ShardSet, ShardStore
from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import sweep

LONGEST = 2**28  # bytes of info.json


@dataclass(frozen=True)
class OpenedShards:
    """A set of shards.

    Args:
        info: what it says about itself.
        stores: where the shards of each split lie.
        index: where the indexes lie.
    """

    info: ShardInfo
    stores: dict[str, ShardStore]
    index: ShardStore

    def split(self, name: str, decoding: Decoding, open_shards: int) -> ShardSet:
        """Return all images of a split."""
        split = self.info.splits[name]
        place = self.index.place(index_name(name))
        with self.index.open(index_name(name), index_bytes(split)) as file:
            table = read_index(file, place, self.info, split)
        return ShardSet(
            self.stores[name],
            self.index,
            split,
            table,
            np.arange(len(table)),
            decoding,
            open_shards,
            self.info.fingerprint,
        )


def open_local(root: Path) -> OpenedShards:
    """Open the shards in a folder. If they have no index, one is made and kept in the cache."""
    check_regular(root / INFO)
    if (root / INFO).exists():
        store = LocalShards(root)
        try:
            info = read_info((root / INFO).read_bytes(), str(root / INFO))
        except OSError as error:
            raise InputError(f"cannot read {root / INFO}: {reason_of(error)}") from error
        for split in info.splits.values():  # before the first step
            for name, size in zip(split.filenames, split.shard_bytes, strict=True):
                if not _has_size(root / name, size):
                    store.open(name, size).close()  # says what is wrong
        return OpenedShards(info, dict.fromkeys(info.splits, store), store)
    shards = shards_of(root)
    if not any(shards.values()):
        raise InputError(f"data.root={root}: expected a folder of shards (.tar), found none; stnrot shards writes them")
    info, folder = cached_index(root, shards)
    stores: dict[str, ShardStore] = {name: LocalShards(paths[0].parent) for name, paths in shards.items()}
    return OpenedShards(info, stores, LocalShards(folder))


def _has_size(path: Path, size: int) -> bool:
    """Return whether a regular file has so many bytes. It is not opened, because a set may have many shards."""
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def open_remote(url: str, limit: int, open_shards: int) -> OpenedShards:
    """Open the shards at a URL.

    Args:
        limit: bytes of the cache.
        open_shards: shards that a training reads at once.
    """
    kind, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise InputError(
            f"data.root={kind}://***@{rest.partition('/')[0].rpartition('@')[2]}: expected an address without a user "
            "and a password, which would be saved with the run"
        )
    text = fetch_text(f"{url}/{INFO}", LONGEST)
    info = read_info(text, f"{url}/{INFO}")
    sizes = sorted((size for split in info.splits.values() for size in split.shard_bytes), reverse=True)
    needed = sum(sizes[:open_shards]) + max(index_bytes(split) for split in info.splits.values())
    if needed > limit:
        raise InputError(
            f"data.source.cache_gb={limit / 1e9:g}: expected at least {needed / 1e9:.3g}, because "
            f"{min(open_shards, len(sizes))} shards are read at once; raise it, or lower data.source.open_shards"
        )
    try:
        cache = cache_folder() / "shards"
        cache.mkdir(parents=True, exist_ok=True)
        sweep(cache)
    except OSError as error:
        raise InputError(
            f"cannot keep shards in the cache folder: {reason_of(error)}; set XDG_CACHE_HOME to another folder"
        ) from error
    store = RemoteShards(url, sha256(text).hexdigest(), cache, limit)
    return OpenedShards(info, dict.fromkeys(info.splits, store), store)
