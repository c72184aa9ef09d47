"""Images in a folder of the user: `root/class/image`, or the same below a folder for each of train, val and test."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from stnrot.data.image_set import Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.files import FileSet, completed, memory_or_stream
from stnrot.data.sources.folder_tree import IMG_EXTENSIONS, images_below, split_folders
from stnrot.errors import InputError

Parts = Mapping[str, tuple[FileNames, list[str | None]]]  # by split: the images and their classes


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Decoding):
    """Read the images below a folder, each labelled by the class folder that holds it.

    If there is no folder for the validation set or the test set, that set is split off from the rest by `split_seed`,
    class by class. Images without class folders make a set without labels, for pairs. `split_folders` lists the names
    of the three folders.

    Args:
        val_fraction: share of the images for validation, if there is no folder for it.
        test_fraction: share of the images for the test, if there is no folder for it.
    """

    val_fraction: float
    test_fraction: float

    def __call__(self, root: Path | None, split_seed: int) -> Splits:
        """Return the training, validation and test images below `root`."""
        if root is None or not root.is_dir():
            raise InputError(f"data.root={root}: expected a folder of images, found none; set data.root to its path")
        folders = split_folders(root)
        found = {part: images_below(folder) for part, folder in folders.items()}
        for part, (names, _) in found.items():
            if not names:
                raise InputError(
                    f"{folders[part]} holds no images: expected class folders with files that end in "
                    f"{', '.join(IMG_EXTENSIONS)}"
                )
        good, all_grey = {}, True
        for part, (names, _) in found.items():
            good[part], grey = self.readable(folders[part], names, 1)
            all_grey &= grey
        decoding = self.with_channels(all_grey)
        parts = {
            part: (names.subset(good[part]), [labels[i] for i in good[part].tolist()])
            for part, (names, labels) in found.items()
        }
        classes = _classes(parts)
        number = {name: k for k, name in enumerate(classes)}

        def file_set(part: str) -> FileSet:
            names, labels = parts[part]
            label = torch.tensor([number[name] for name in labels if name is not None]) if classes else None
            return FileSet((names,), decoding, label)

        sets = completed({part: file_set(part) for part in found}, split_seed, self.val_fraction, self.test_fraction)
        return memory_or_stream(*sets, classes)


def _classes(parts: Parts) -> tuple[str, ...]:
    """Return the names of the classes. Each class must have a training image."""
    known = {*parts["train"][1]}
    for part, (names, labels) in parts.items():
        for i, name in enumerate(labels):
            if name not in known:
                raise InputError(f"class {name!r} is seen only in {part}: {names[i]}; give it training images too")
    classes = tuple(sorted(name for name in known if name is not None))
    if classes and None in known:
        stray = next(names[labels.index(None)] for names, labels in parts.values() if None in labels)
        raise InputError(f"{stray} lies beside class folders: expected every image inside one, move it or remove it")
    return classes
