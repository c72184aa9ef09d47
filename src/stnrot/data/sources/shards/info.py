"""What a set of shards says about itself: `info.json`. The keys of a split are those that timm reads too."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from stnrot.errors import InputError, reason_of

INFO = "info.json"
SPLITS = ("train", "val", "test")
NAME = re.compile(r"\w[\w.-]*\.tar", re.ASCII)  # no path: it is joined to that of the set
MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class SplitInfo:
    """The shards of a split, in their order: name, number of images and bytes of each; bytes of the list of names."""

    name: str
    filenames: tuple[str, ...]
    shard_lengths: tuple[int, ...]
    shard_bytes: tuple[int, ...]
    names_bytes: int

    @property
    def num_samples(self) -> int:
        """The number of images."""
        return sum(self.shard_lengths)


@dataclass(frozen=True)
class ShardInfo:
    """What is known about a set of shards.

    Args:
        splits: by name.
        classes: their names; none without labels.
        grey: whether all images are grey.
        fingerprint: of the content of all shards; of those that other tools wrote, of their index.
    """

    splits: dict[str, SplitInfo]
    classes: tuple[str, ...]
    grey: bool
    fingerprint: str

    def to_json(self) -> str:
        """Return the text of `info.json`."""
        splits = {name: asdict(split) | {"num_samples": split.num_samples} for name, split in self.splits.items()}
        return json.dumps(asdict(self) | {"splits": splits}, indent=1) + "\n"


def read_info(text: bytes, place: str) -> ShardInfo:
    """Read `info.json`, which may come from anyone.

    Args:
        text: its content.
        place: its path or URL; for the message.
    """
    try:
        found = json.loads(text)
        splits = {name: _split(name, found["splits"][name]) for name in SPLITS if name in found["splits"]}
        classes, grey, fingerprint = found["classes"], found["grey"], found["fingerprint"]
        is_known = (
            isinstance(classes, list)
            and len(classes) <= MOST_CLASSES
            and all(isinstance(name, str) for name in classes)
            and isinstance(grey, bool)
            and isinstance(fingerprint, str)
            and all(len(set(split.filenames)) == len(split.filenames) for split in splits.values())
            and "train" in splits
        )
        if not is_known:
            raise ValueError("train, classes, grey, fingerprint, or a name that stands twice")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{place} does not describe shards ({reason_of(error)}): expected the file that stnrot shards writes"
        ) from error
    return ShardInfo(splits, tuple(classes), grey, fingerprint)


def _split(name: str, found: Any) -> SplitInfo:
    columns = [found[key] for key in ("filenames", "shard_lengths", "shard_bytes")]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise ValueError(f"lists of {name} that differ in length")
    if not all(isinstance(each, str) and NAME.fullmatch(each) for each in columns[0]):
        raise ValueError(f"the names of the shards of {name}")
    sizes = [each for column in columns[1:] for each in column] + [found["names_bytes"]]
    if not all(type(each) is int and 0 < each < 2**48 for each in sizes):
        raise ValueError(f"the sizes of the shards of {name}")
    return SplitInfo(name, tuple(columns[0]), tuple(columns[1]), tuple(columns[2]), found["names_bytes"])
