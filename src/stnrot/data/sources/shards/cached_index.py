"""The index of shards that other tools wrote: made once, and kept in the user's cache folder."""

import itertools
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.shards.index import packed, write_index
from stnrot.data.sources.shards.info import INFO, ShardInfo, SplitInfo, read_info
from stnrot.data.sources.shards.scan import CLASSES, class_names, samples_of
from stnrot.errors import InputError, reason_of
from stnrot.printed import printable
from stnrot.regular_file import real
from stnrot.runs.file_lock import in_turn


def cached_index(root: Path, shards: dict[str, list[Path]]) -> tuple[ShardInfo, Path]:
    """Return what is known about shards without an index, and the folder `stnrot/shard_indexes/STATE` of their index.

    Jobs and processes that start together take turns; others do not wait for them.

    Args:
        root: folder of the set.
        shards: of each split.
    """
    listed = [root / CLASSES] if (root / CLASSES).exists() else []
    try:
        files = [(str(real(path)), path.stat()) for path in (*itertools.chain(*shards.values()), *listed)]
    except OSError as error:  # a link that leads nowhere
        raise InputError(f"cannot read the shard {error.filename}: {reason_of(error)}; copy the set again") from error
    text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
    state = sha256(text.encode()).hexdigest()[:40]
    try:
        folder = cache_folder() / "shard_indexes" / state
        if not (folder / INFO).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            wait = f"another process reads the shards in {root}: waiting for its index"
            with in_turn(folder.with_name(f".{state}.lock"), wait):
                if not (folder / INFO).is_file():
                    _make(root, shards, folder)
        return read_info((folder / INFO).read_bytes(), str(folder / INFO)), folder
    except OSError as error:
        raise InputError(
            f"cannot keep the index of {root} in the cache folder: {reason_of(error)}; make room, or set "
            "XDG_CACHE_HOME to another folder"
        ) from error


@dataclass(frozen=True)
class _Scanned:
    """What is kept of a shard, of which there may be many.

    Args:
        rows: of the index.
        names: of the shard and each image, one a line.
        count: number of images.
        largest: of the classes; -1 without.
        unlabelled: name of the first image without a class.
    """

    rows: bytes
    names: str
    count: int
    largest: int
    unlabelled: str | None


def _make(root: Path, shards: dict[str, list[Path]], folder: Path) -> None:
    """Scan shards; write their indexes to a new folder."""
    new = folder.with_name(f".{folder.name}")
    for left in (folder, new):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    found = {name: [_scanned(k, path) for k, path in enumerate(paths)] for name, paths in shards.items()}
    everything = [each for parts in found.values() for each in parts]
    unlabelled = next((each.unlabelled for each in everything if each.unlabelled is not None), None)
    classes = class_names(root, max(each.largest for each in everything), unlabelled)
    new.mkdir()
    try:
        splits, digest = {}, sha256("\n".join(classes).encode())
        for name, paths in shards.items():
            parts = found[name]
            for each in parts:
                digest.update(each.rows + each.names.encode())
            lines = (line for each in parts for line in each.names.split("\n"))
            names_bytes = write_index(new, name, b"".join(each.rows for each in parts), lines)
            splits[name] = SplitInfo(
                name,
                tuple(path.name for path in paths),
                tuple(each.count for each in parts),
                tuple(path.stat().st_size for path in paths),
                names_bytes,
            )
        info = ShardInfo(splits, classes, False, digest.hexdigest()[:32])
        (new / INFO).write_text(info.to_json(), encoding="utf-8")
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _scanned(number: int, path: Path) -> _Scanned:
    samples = samples_of(path)
    return _Scanned(
        b"".join(packed(number, each.offset, each.size, each.label) for each in samples),
        "\n".join(printable(f"{path.name}/{each.name}") for each in samples),
        len(samples),
        max(each.label for each in samples),
        next((each.name for each in samples if each.label < 0), None),
    )
