"""Open a set of shards: in a folder, with an index or without, or at a URL."""

import itertools
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock

from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.shards.download import fetch_text
from stnrot.data.sources.shards.index import index_bytes, index_name, packed, read_index, write_index
from stnrot.data.sources.shards.info import INFO, ShardInfo, SplitInfo, read_info
from stnrot.data.sources.shards.local import LocalShards
from stnrot.data.sources.shards.remote import RemoteShards
from stnrot.data.sources.shards.scan import CLASSES, class_names, samples_of, shards_of
from stnrot.data.sources.shards.shard_set import ShardSet, ShardStore
from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular, real
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
        return ShardSet(self.stores[name], self.index, split, table, np.arange(len(table)), decoding, open_shards)


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
                store.open(name, size).close()
        return OpenedShards(info, dict.fromkeys(info.splits, store), store)
    shards = shards_of(root)
    if not any(shards.values()):
        raise InputError(f"data.root={root}: expected a folder of shards (.tar), found none; stnrot shards writes them")
    listed = [root / CLASSES] if (root / CLASSES).exists() else []
    try:
        files = [(str(real(path)), path.stat()) for path in (*itertools.chain(*shards.values()), *listed)]
    except OSError as error:  # a link that leads nowhere
        raise InputError(f"cannot read the shard {error.filename}: {reason_of(error)}; copy the set again") from error
    state = sha256("\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files).encode()).hexdigest()
    try:
        folder = cache_folder() / "shard_indexes" / state[:40]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if not (folder / INFO).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                _write_indexes(root, shards, folder, state[:40])
        info = read_info((folder / INFO).read_bytes(), str(folder / INFO))
    except OSError as error:
        raise InputError(
            f"cannot keep the index of {root} in the cache folder: {reason_of(error)}; make room, or set "
            "XDG_CACHE_HOME to another folder"
        ) from error
    stores: dict[str, ShardStore] = {name: LocalShards(paths[0].parent) for name, paths in shards.items()}
    return OpenedShards(info, stores, LocalShards(folder))


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


def _write_indexes(root: Path, shards: dict[str, list[Path]], folder: Path, state: str) -> None:
    """Scan shards that have no index; write their indexes to a new folder."""
    found = {name: [samples_of(path) for path in paths] for name, paths in shards.items()}
    everything = [sample for parts in found.values() for part in parts for sample in part]
    classes = class_names(root, everything)
    new = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        splits = {}
        for name, paths in shards.items():
            rows = b"".join(
                packed(k, each.offset, each.size, each.label) for k, part in enumerate(found[name]) for each in part
            )
            texts = (f"{path.name}/{each.name}" for path, part in zip(paths, found[name], strict=True) for each in part)
            names_bytes = write_index(new, name, rows, texts)
            splits[name] = SplitInfo(
                name,
                tuple(path.name for path in paths),
                tuple(len(part) for part in found[name]),
                tuple(path.stat().st_size for path in paths),
                names_bytes,
            )
        (new / INFO).write_text(ShardInfo(splits, classes, False, state).to_json(), encoding="utf-8")
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
