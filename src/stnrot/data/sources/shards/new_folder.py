"""Write a whole folder of shards, or nothing."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stnrot.data.sources.shards.info import INFO
from stnrot.errors import InputError, reason_of
from stnrot.runs.file_lock import held

SHARD_FILES = re.compile(r"info\.json|(train|val|test)(-\d+\.tar|\.index|\.names\.txt)")


@contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder beside `out` to write to; if the block succeeds, it takes the place of `out`.

    Args:
        overwrite: replace a folder of shards that is there. Any other folder is refused, also one that has appeared
            while the block was running.
    """
    if not out.parent.is_dir():
        raise InputError(f"OUT {out}: there is no folder {out.parent}; make it first")
    _check(out, overwrite)
    new, old = (out.with_name(f".{out.name}.stnrot-{kind}") for kind in ("new", "old"))
    try:
        with held(out.with_name(f".{out.name}.lock"), f"OUT {out} is being written by another process"):
            _put_back(old, out)  # of a process that was killed
            _check(out, overwrite)
            shutil.rmtree(new, ignore_errors=True)
            try:
                new.mkdir()
                yield new
                _check(out, overwrite)
                if overwrite and out.exists():
                    out.rename(old)
                new.rename(out)
            finally:
                shutil.rmtree(new, ignore_errors=True)
                _put_back(old, out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {reason_of(error)}; choose another OUT") from error


def _check(out: Path, overwrite: bool) -> None:
    """Raise InputError unless `out` is free or may be replaced."""
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise InputError(f"OUT {out} exists: expected a new folder; add --overwrite to replace the shards in it")
    if out.exists() and not _holds_only_shards(out):
        raise InputError(f"OUT {out} holds other files than shards: it is not replaced, expected another folder")


def _put_back(old: Path, out: Path) -> None:
    """Give the folder that was to be replaced its name again, or delete it if another one has the name."""
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _holds_only_shards(out: Path) -> bool:
    return (
        not out.is_symlink()
        and (out / INFO).is_file()
        and all(SHARD_FILES.fullmatch(each.name) and each.is_file() for each in out.iterdir())
    )
