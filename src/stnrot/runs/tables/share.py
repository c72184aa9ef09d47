"""The part of a list that one of several machines works on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stnrot.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`: every `count`-th item, so that all shares are equally large.

    Args:
        number: from 1 to `count`.
        count: number of machines.
    """

    number: int
    count: int

    def of(self, items: Sequence[T]) -> list[T]:
        """Return the items of this share, in order."""
        return list(items[self.number - 1 :: self.count])


ALL = Share(1, 1)


def read_share(text: str | None) -> Share:
    """Read `I/N`, such as 3/8; None means all.

    Raises:
        InputError: if it is not that.
    """
    if text is None:
        return ALL
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"share={text}: expected I/N with I from 1 to N, such as 3/8 for the third of eight machines")
    return Share(int(found[1]), int(found[2]))
