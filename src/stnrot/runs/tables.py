"""Tables, a list of entries a column: on the screen, and as CSV."""

import csv
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def print_table(title: str, columns: Mapping[str, Sequence[str]], keys: int) -> None:
    """Print columns of text, the first `keys` to the left.

    Names may be broken, entries are not: columns that the screen has no room for follow below, beside the first `keys`
    ones again.
    """
    heads = {name: re.findall(r"[^_./]*[_./]|[^_./]+", name) for name in columns}
    height = max(len(head) for head in heads.values())
    laid = []
    for number, (name, entries) in enumerate(columns.items()):
        lines = [""] * (height - len(heads[name])) + heads[name] + [*entries]
        width = max(len(line) for line in lines)
        lines.insert(height, "─" * width)
        laid.append([line.ljust(width) if number < keys else line.rjust(width) for line in lines])
    print(f"\n{title}")
    for block in _blocks(laid, keys, shutil.get_terminal_size().columns):
        print()
        for line in zip(*block, strict=True):
            if any(part.strip() for part in line):
                print(" ".join(line).rstrip())
    print()


def _blocks(laid: list[list[str]], keys: int, room: int) -> list[list[list[str]]]:
    blocks = [laid[: keys + 1]]
    for column in laid[keys + 1 :]:
        if sum(len(lines[0]) + 1 for lines in [*blocks[-1], column]) - 1 <= room:
            blocks[-1].append(column)
        else:
            blocks.append([*laid[:keys], column])
    return blocks


def short_names(names: Sequence[str]) -> list[str]:
    """Call each option by as many of its last parts as tell it from the others: width, or classifier.width."""
    return [
        next((end for end in _ends(name) if sum(end in _ends(other) for other in names) == 1), name) for name in names
    ]


def _ends(name: str) -> list[str]:
    return [name[found.end() :] for found in reversed(list(re.finditer("[./]", name)))] + [name]


def decimals(values: Iterable[float]) -> int:
    """Return how many to show of a column: two of degrees, four of losses and shares."""
    return 2 if max(map(abs, values), default=0) >= 10 else 4


def write_table(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write columns as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
