"""The image files that a person names: files, folders, patterns, or a list on standard input."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stnrot.data.sources.folder_tree import walk_images
from stnrot.errors import InputError


def list_images(names: Sequence[str]) -> list[Path]:
    """Return the files, each once, in the order of their names.

    Args:
        names: of files, of folders (all images below them), patterns with `*`, or `-` for a list on standard input, a
            name of a file in each line. If it has zero bytes, as from `find -print0`, these separate the names.

    Raises:
        InputError: if a folder or a pattern has no images, or standard input is closed.
    """
    found: dict[str, Path] = {}
    for name in names:
        for path in _from_input() if name == "-" else _images(name):
            found.setdefault(os.path.abspath(path), path)
    if not found:
        raise InputError("expected image files, folders or patterns, got an empty list")
    return list(found.values())


def _from_input() -> Iterator[Path]:
    if sys.stdin is None:
        raise InputError("-: expected a list of files on standard input, which is closed; name the files")
    listed = sys.stdin.buffer.read()
    names = listed.split(b"\0") if b"\0" in listed else [line.rstrip(b"\r") for line in listed.split(b"\n")]
    for name in filter(None, names):
        yield Path(os.fsdecode(name))


def _images(name: str) -> list[Path]:
    if not name:
        raise InputError("expected names of image files, got an empty one")
    if os.path.isdir(name):
        below = sorted(walk_images(Path(name)))
        if not below:
            raise InputError(f"{name} has no images: expected a folder with image files, also in folders inside")
        return below
    if os.path.exists(name) or glob.escape(name) == name:  # a missing file has its error in the table
        return [Path(name)]
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if not os.path.isdir(match)]
    if not matches:
        raise InputError(f"{name} matches no file: expected image files")
    return matches
