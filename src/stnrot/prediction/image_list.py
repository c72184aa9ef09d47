"""The image files that a person names: files, folders, patterns, or a list on standard input."""

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stnrot.data.sources.folder_tree import walk_images
from stnrot.errors import InputError


class NamedImage(NamedTuple):
    """An image file, and its path below a folder of results."""

    path: Path
    place: Path


def list_images(names: Sequence[str]) -> list[NamedImage]:
    """Return the files, each once, in the order of their names.

    Args:
        names: of files, of folders (all images below them), patterns with `*`, or `-` for a list on standard input, a
            name in each line.

    Raises:
        InputError: if a folder or a pattern has no images.
    """
    found = dict.fromkeys(image for name in _with_input(names) for image in _images(name))
    if not found:
        raise InputError("expected image files, folders or patterns, got an empty list")
    return list(found)


def check_places(images: Sequence[NamedImage]) -> None:
    """Raise InputError if two images would be written to one file."""
    first: dict[Path, Path] = {}
    for path, place in images:
        other = first.setdefault(place.with_suffix(""), path)
        if other != path:
            raise InputError(f"{other} and {path} would be written to one file: give the folder that holds both")


def _with_input(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield name


def _images(name: str) -> list[NamedImage]:
    path = Path(name)
    if path.is_dir():
        below = [NamedImage(file, file.relative_to(path)) for file in sorted(walk_images(path))]
        if not below:
            raise InputError(f"{name} has no images: expected a folder with image files, also in folders inside")
        return below
    if path.exists() or glob.escape(name) == name:  # a missing file has its error in the table
        return [NamedImage(path, Path(path.name))]
    matches = sorted(glob.glob(name, recursive=True))
    if not matches:
        raise InputError(f"{name} matches no file: expected image files")
    return [image for match in matches for image in _images(glob.escape(match) if Path(match).is_dir() else match)]
