"""The index of shards that other tools wrote: read from the headers of the tar files, without unpacking anything."""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stnrot.data.sources.folder_tree import IMG_EXTENSIONS, KIND, SPLIT
from stnrot.data.sources.shards.index import LARGEST
from stnrot.data.sources.shards.info import MOST_CLASSES, NAME
from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular

KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # of webdataset: up to the first dot of the last part
CLASSES = "classes.txt"
META = re.compile(r"__[^/]*__(/|$)")  # of webdataset: no samples


@dataclass(frozen=True)
class Sample:
    """An image in a shard: its name there, the place of its bytes, and its class (-1: none)."""

    name: str
    offset: int
    size: int
    label: int


def shards_of(root: Path) -> dict[str, list[Path]]:
    """Return the tar files of each split: in folders train, val and test, or told apart by their names.

    Names such as `train-000000.tar` and `imagenet-val-12.tar` name a split. If none does, all files are for training.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((*root.glob("*.tar"), *root.glob("*/*.tar"))):
        if not NAME.fullmatch(path.name):
            raise InputError(f"{path}: expected a name of letters, digits, dots, - and _; rename it")
        word = SPLIT.search((path.parent.name if path.parent != root else path.stem).lower())
        found.setdefault(KIND[word[1]] if word else "", []).append(path)
    others = found.pop("", [])
    if others and found:
        raise InputError(f"{others[0]}: expected train, val or test in its name, as in {next(iter(found.values()))[0]}")
    found = found or {"train": others}
    if "train" not in found:
        raise InputError(f"{next(iter(found.values()))[0]}: expected shards of a training set beside it, found none")
    for paths in found.values():
        if len({path.parent for path in paths}) > 1:
            raise InputError(f"{paths[0]} and {paths[-1]}: expected the shards of a split in one folder; move them")
    return found


def samples_of(path: Path) -> list[Sample]:
    """Return the images of a shard.

    Only regular members count; links, devices and folders are passed over. Names are names here, never paths.

    Raises:
        InputError: if the file is no tar file, is cut off, or has members that cannot be what they say.
    """
    check_regular(path)
    found: dict[str, Sample] = {}
    labels: dict[str, int] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = os.fstat(file.fileno()).st_size
            for member in _members(tar):
                if member.issparse() or member.offset_data + member.size > end:
                    raise InputError(f"{path} is cut off, or broken, at {member.name!r}: expected a whole tar file")
                key = KEY.fullmatch(member.name)
                if key is None or META.match(member.name):
                    continue
                if f".{key[2].lower()}" in IMG_EXTENSIONS and key[1] not in found:
                    if member.size > LARGEST:
                        raise InputError(
                            f"{member.name!r} in {path} has {member.size} bytes: expected at most {LARGEST}"
                        )
                    found[key[1]] = Sample(member.name, member.offset_data, member.size, -1)
                elif key[2].lower() == "cls":
                    labels[key[1]] = _label(os.pread(file.fileno(), min(member.size, 32), member.offset_data), path)
            if os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset) != bytes(tarfile.BLOCKSIZE):
                raise InputError(f"{path} is cut off: expected a tar file with its end; copy it again")
    except InputError:
        raise
    except Exception as error:  # tarfile can raise almost anything on a broken file
        raise InputError(f"cannot read the shard {path}: {reason_of(error)}; expected a whole tar file") from error
    samples = [Sample(each.name, each.offset, each.size, labels.get(key, -1)) for key, each in found.items()]
    if not samples:
        raise InputError(f"{path} holds no images: expected members that end in {', '.join(IMG_EXTENSIONS)}")
    return samples


def class_names(root: Path, largest: int, unlabelled: str | None) -> tuple[str, ...]:
    """Return the names of the classes: the lines of `classes.txt`, or numbers. Without labels there are none.

    Args:
        root: folder of the set.
        largest: class; -1 if no image has one.
        unlabelled: name of an image without a class, None if all have one.

    Raises:
        InputError: if only some images have a class, or `classes.txt` has too few lines.
    """
    if largest < 0:
        return ()
    if unlabelled is not None:
        raise InputError(f"{unlabelled!r} has no class (.cls), but others have: expected one for each image, or none")
    listed = root / CLASSES
    check_regular(listed)
    try:
        names = tuple(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else ()
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {listed}: {reason_of(error)}; expected the name of a class in each line"
        ) from error
    if names and len(names) <= largest:
        raise InputError(f"{listed} has {len(names)} lines: expected a name for each class from 0 to {largest}")
    return names or tuple(map(str, range(largest + 1)))


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        if member.isreg():
            yield member


def _label(text: bytes, path: Path) -> int:
    if not re.fullmatch(rb"\s*\d{1,9}\s*", text) or int(text) >= MOST_CLASSES:
        raise InputError(f"{path} has the class {text!r}: expected a whole number from 0 to {MOST_CLASSES - 1}")
    return int(text)
