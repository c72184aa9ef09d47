"""A user's own folder: `root/class/picture`, or the same below `train`, `val` and `test`."""

from pathlib import Path
from typing import Any

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from stnrot.data.image_set import Splits
from stnrot.data.rng import permutation
from stnrot.data.sources.files import Decoding, FileSet, memory_or_stream, split_by_seed
from stnrot.errors import InputError


def image_folder(
    root: Path | None,
    split_seed: int,
    *,
    val_fraction: float,
    test_fraction: float,
    **decoding: Any,
) -> Splits:
    """Return the pictures below `root`, labelled by the folder they lie in.

    Missing `val` or `test` folders are cut from the rest by `split_seed`, class by class. Pictures that
    lie in no class folder make a set without labels, for pairs.

    Args:
        val_fraction: the share to cut where there is no `val` folder.
        test_fraction: the share to cut where there is no `test` folder.
        decoding: the fields of `Decoding`.
    """
    if root is None or not root.is_dir():
        raise InputError(f"data.root={root}: expected a folder of pictures in class folders, set data.root=FOLDER")
    decode = Decoding(**decoding)
    found = {part: _pictures(root / part) for part in ("train", "val", "test") if (root / part).is_dir()}
    if "train" not in found:
        found = {"train": _pictures(root)}
    for part, pictures in found.items():
        if not pictures:
            raise InputError(
                f"{root if len(found) == 1 else root / part} holds no pictures: expected class folders with "
                f"files that end in {', '.join(IMG_EXTENSIONS)}"
            )
    rows = [(path, name, part) for part, pictures in found.items() for path, name in pictures]
    good, decode = decode.readable([(path,) for path, _, _ in rows])
    rows = [rows[i] for i in good]
    known = {name for _, name, part in rows if part == "train"}
    for path, name, part in rows:
        if name not in known:
            raise InputError(f"class {name!r} is seen only in {part}: {path}; give it training images too")
    classes = tuple(sorted(name for name in known if name is not None))
    if classes and None in known:
        stray = next(path for path, name, _ in rows if name is None)
        raise InputError(f"{stray} lies beside class folders: expected every picture inside one")

    def picture_set(part: str) -> FileSet:
        mine = [(path, name) for path, name, where in rows if where == part]
        label = torch.tensor([classes.index(name) for _, name in mine]) if classes else None
        return FileSet(tuple((path,) for path, _ in mine), decode, label)

    train = picture_set("train")
    val_fraction, test_fraction = (
        0.0 if part in found else share for part, share in (("val", val_fraction), ("test", test_fraction))
    )
    label = torch.zeros(len(train), dtype=torch.int64) if train.label is None else train.label
    order = permutation((split_seed,), len(train))
    cut = dict(zip(("train", "val", "test"), split_by_seed(label, order, val_fraction, test_fraction), strict=True))
    parts = [picture_set(part) if part != "train" and part in found else train.subset(cut[part]) for part in cut]
    train_set, val_set, test_set = memory_or_stream(parts)
    return Splits(train_set, val_set, test_set, classes)


def _pictures(folder: Path) -> list[tuple[Path, str | None]]:
    """List the pictures below a folder with the names of their class folders, in a fixed order."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMG_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    parts = [path.relative_to(folder).parts for path in files]
    return [(path, part[0] if len(part) > 1 else None) for path, part in zip(files, parts, strict=True)]
