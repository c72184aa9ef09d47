"""Download a data set of torchvision if its folder does not hold it."""

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import CIFAR10, MNIST

from stnrot.errors import InputError
from stnrot.regular_file import check_regular


def download_missing(
    kind: type[MNIST] | type[CIFAR10], root: Path | None, files: Sequence[Path], expected: str
) -> Path:
    """Download the data set into `root` unless it is there; return `root`.

    Args:
        kind: the data set. Its constructor raises RuntimeError if the files are missing or changed.
        root: folder of the data set, `data.root`.
        files: that the constructor reads, below `root`.
        expected: what the folder holds; for the message.

    Raises:
        InputError: if there is no folder, or the download fails.
    """
    name = kind.__name__
    if root is None:
        raise InputError(f"data.root is not set: expected the folder that holds {name}, or where it is downloaded to")
    for file in files:
        check_regular(root / file)
    try:
        kind(str(root), train=True)
    except RuntimeError:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".download.lock"):  # several processes of one job may download at once
                kind(str(root), train=True, download=True)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise InputError(
                f"no complete {name} under data.root={root} and it could not be downloaded ({reason}); set data.root "
                f"to a folder that holds {expected}, or use the embedded set: data=rotated_digits"
            ) from error
    return root
