"""Images in shards: tar files of the webdataset format, in a folder or on a web server."""

import re
from dataclasses import dataclass
from pathlib import Path

from stnrot.data.image_set import Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.files import completed, memory_or_stream
from stnrot.data.sources.shards.sets import open_local, open_remote
from stnrot.errors import InputError, check_number


@dataclass(frozen=True, kw_only=True)
class ImageShards(Decoding):
    """Read the images in shards, each labelled by the number in its member `.cls`.

    `stnrot shards` writes shards from a folder. If the validation set or the test set has no shards, it is split off
    from the training set by `split_seed`, class by class.

    Args:
        val_fraction: share of the images for validation, if there are no shards for it.
        test_fraction: share of the images for the test, if there are no shards for it.
        open_shards: a training draws from so many places of the set at once, see `ShardSet.order`.
        cache_gb: shards of a web server are kept in a cache of at most this size (in gigabytes).
    """

    val_fraction: float
    test_fraction: float
    open_shards: int
    cache_gb: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("open_shards", self.open_shards, 1)
        check_number("cache_gb", self.cache_gb, 0, 10**9, whole=False)

    def __call__(self, root: Path | None, split_seed: int) -> Splits:
        """Return the training, validation and test images of the shards at `root`."""
        if (url := url_of(root)) is not None:
            opened = open_remote(url, int(self.cache_gb * 1e9), self.open_shards)
        elif root is not None and root.is_dir():
            opened = open_local(root)
        else:
            raise InputError(
                f"data.root={root}: expected a folder of shards or its URL, found none; stnrot shards writes one"
            )
        info = opened.info
        decoding = self.with_channels(info.grey)
        found = {name: opened.split(name, decoding, self.open_shards) for name in info.splits}
        sets = completed(found, split_seed, self.val_fraction, self.test_fraction)
        return memory_or_stream(*sets, info.classes)


def url_of(root: Path | None) -> str | None:
    """Return the URL that a path stands for, or None. `Path` makes one slash of the two."""
    found = re.fullmatch(r"(https?):/+(.+)", str(root), re.DOTALL)
    return found and f"{found[1]}://{found[2]}"
