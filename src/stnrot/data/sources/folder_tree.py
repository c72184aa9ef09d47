"""The folders of a set of images: which are splits, which are classes, and which images they hold."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

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


def images_below(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the images below a folder with the names of their class folders, in a fixed order.

    Folders inside a class folder belong to the class. Links to folders are followed. Hidden files and folders are left
    out.

    Raises:
        InputError: if a class folder holds splits of its own.
    """
    files = sorted(walk_images(folder))
    parts = [path.relative_to(folder).parts for path in files]
    inner: dict[str, dict[str, str]] = {}  # of each class folder: its splits and their folders
    for name, below in dict.fromkeys(part[:2] for part in parts if len(part) > 2):
        split = _split(below)
        if split is not None and not split[1]:
            inner.setdefault(name, {})[split[0]] = below
    for name, splits in inner.items():
        if len(splits) > 1:
            raise InputError(
                f"{folder / name} holds the split folders {', '.join(splits.values())}: expected class folders inside "
                f"split folders; move them, or set data.root={folder / name}"
            )
    return [(path, part[0] if len(part) > 1 else None) for path, part in zip(files, parts, strict=True)]


def walk_images(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the images below a folder, also behind links.

    Raises:
        InputError: if a folder cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}; allow it, or name the others") from error
    for entry in entries:
        if _ignored(entry.name):
            continue
        if _is_folder(entry):
            yield from walk_images(Path(entry.path), (*above, real))
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield Path(entry.path)


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
