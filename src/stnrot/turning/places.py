"""Where turned files go: below a folder, in the folders that they had below their common folder."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stnrot.errors import InputError
from stnrot.runs.atomic_write import atomic_write


def without_outputs(images: Sequence[Path], out: Path) -> list[Path]:
    """Return the images without those of an earlier run: the ones in `out`, if it lies among the others."""
    folder = os.path.abspath(out)
    others = [path for path in images if not _is_below(path, folder)]
    return others if others and _is_below(Path(folder), _common_folder(others)) else list(images)


def output_places(images: Sequence[Path], out: Path, option: str) -> list[Path]:
    """Return the path below `out` of each image. Errors begin with the name of the option that gives `out`.

    Raises:
        InputError: if `out` is a file, or one of the paths is an image itself.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{option}={out} is a file: expected a folder; choose another")
    common = _common_folder(images)
    places = [out / os.path.relpath(os.path.abspath(path), common) for path in images]
    inputs = {os.path.realpath(path) for path in images}
    for place in places:
        if os.path.realpath(place) in inputs:
            raise InputError(
                f"{option}={out}: {place} is one of the images: expected a folder elsewhere; choose another"
            )
    return places


def is_there(place: Path) -> bool:
    """Return whether a path is taken by a file, or by a link to one that may be missing."""
    return os.path.lexists(place) and not os.path.isdir(place)


def write_file(content: bytes, place: Path, like: Path) -> None:
    """Write a file with the permissions of another one, `like`: a private image stays private."""
    with _new_file(place) as new:
        new.write_bytes(content)
        shutil.copymode(like, new)


def copy_file(image: Path, place: Path) -> None:
    """Copy a file with its permissions and its time of modification."""
    with _new_file(place) as new:
        shutil.copy2(image, new)


@contextmanager
def _new_file(place: Path) -> Iterator[Path]:
    """Make the folders of a file, and replace it atomically. A link stays a link; its file is replaced."""
    place = Path(os.path.realpath(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(place) as new:
        yield new


def _common_folder(images: Sequence[Path]) -> str:
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in images])


def _is_below(path: Path, folder: str) -> bool:
    """Return whether a path lies below a folder; both may be missing."""
    return folder in map(str, Path(os.path.abspath(path)).parents)
