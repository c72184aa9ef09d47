"""The folders of a set of images: which are splits, which are classes, and which images they hold."""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from stnrot.data.sources.file_names import FileNames
from stnrot.errors import InputError

SPLIT_NAMES = {  # in upper or lower case; `set`, `data` or `images` may follow
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
KIND = {name: kind for kind, names in SPLIT_NAMES.items() for name in names}
SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(KIND, reverse=True))})[ ._-]*(?:set|data|images)?(?![a-z])")
# the types of torchvision.datasets.ImageFolder
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
IGNORED = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # macOS, Synology and Windows keep copies of images there


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of `train`, `val` and `test`. A root without split folders is the folder of `train` itself.

    The name of a split folder is one of `SPLIT_NAMES`. Two or three folders whose names differ in such a word alone,
    such as `seg_train` and `seg_test`, are splits too. Other folders without images do not matter.

    Raises:
        InputError: if a split folder lies beside other images. They could be classes or another split, so nothing is
            guessed. In a folder `train` every folder is a class, whatever its name.
    """
    names = sorted(entry.name for entry in os.scandir(root) if _is_folder(entry) and not _ignored(entry.name))
    named = {name: split for name in names if (split := _split(name)) is not None}
    kinds: dict[str, set[str]] = defaultdict(set)
    for kind, rest in named.values():
        kinds[rest].add(kind)
    splits = {name: kind for name, (kind, rest) in named.items() if not rest or len(kinds[rest]) > 1}
    if not splits:
        return {"train": root}
    found: dict[str, Path] = {}
    for name, kind in splits.items():
        if kind in found:
            raise InputError(f"{root} has two folders for the {kind} set, {found[kind].name} and {name}: keep one")
        found[kind] = root / name
    others = sorted(_holders(root, splits))
    if others or "train" not in found:
        shown = ", ".join(splits)
        raise InputError(
            f"{root} has {shown}, {'beside ' + others[0] if others else 'but no train'}: expected the split folders "
            f"train, val and test alone; move the others or, if {shown} is a class, put all classes into a folder train"
        )
    return {kind: found[kind] for kind in SPLIT_NAMES if kind in found}


def _holders(root: Path, splits: Iterable[str]) -> Iterator[str]:
    """Yield the images of a root, and its folders with images, that are no splits."""
    for entry in os.scandir(root):
        if entry.name in splits or _ignored(entry.name):
            continue
        if (
            next(walk_images(Path(entry.path)), None)
            if _is_folder(entry)
            else entry.name.lower().endswith(IMG_EXTENSIONS)
        ):
            yield entry.name


def images_below(folder: Path) -> tuple[FileNames, list[str | None]]:
    """Return the names of the images below a folder, in a fixed order, and those of their class folders.

    Folders inside a class folder belong to the class. Links to folders are followed. Hidden files and folders are left
    out.

    Raises:
        InputError: if a class folder holds splits of its own.
    """
    classes: list[str | None] = []
    inner: dict[tuple[str, str], None] = {}  # class folders, with the folders in them

    def images() -> Iterator[str]:
        for name in _walk(folder):
            top, *below = name.split(os.sep, 2)
            classes.append(sys.intern(top) if below else None)
            if len(below) == 2:
                inner[top, below[0]] = None
            yield name

    found = FileNames.of(images(), prefix="" if folder == Path() else os.path.join(folder, ""))
    splits: dict[str, dict[str, str]] = {}  # of each class folder: its splits and their folders
    for name, below in inner:
        split = _split(below)
        if split is not None and not split[1]:
            splits.setdefault(name, {})[split[0]] = below
    for name, kinds in splits.items():
        if len(kinds) > 1:
            raise InputError(
                f"{folder / name} holds the split folders {', '.join(kinds.values())}: expected class folders inside "
                f"split folders; move them, or set data.root={folder / name}"
            )
    return found, classes


def walk_images(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, also behind links, in the order of `sorted`.

    Raises:
        InputError: if a folder cannot be read.
    """
    yield from map(folder.joinpath, _walk(folder))


def _walk(top: Path, inside: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of the images in the folder `inside` of `top`, relative to `top`."""
    folder = top / inside
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.path.normcase(entry.name))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}; allow it, or name the others") from error
    for entry in entries:
        if _ignored(entry.name):
            continue
        if _is_folder(entry):
            yield from _walk(top, f"{inside}{entry.name}{os.sep}", (*above, real))
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield inside + entry.name


def _split(name: str) -> tuple[str, str] | None:
    """Return the split that the name of a folder names, and the rest of the name, or None if it names no split."""
    plain = name.lower()
    found = SPLIT.search(plain)
    return found and (KIND[found[1]], (plain[: found.start()] + plain[found.end() :]).strip(" ._-"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED
