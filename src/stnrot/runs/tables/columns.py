"""Tables, one list of cells per column: printed with rich, or written as CSV.

rich breaks or cuts the cells of a table that is wider than the terminal, so `print_table` divides the columns first.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stnrot.printed import printable
from stnrot.runs.atomic_write import atomic_write


def print_table(title: str, columns: Mapping[str, Sequence[str]], keys: int) -> None:
    """Print columns of text. The first `keys` columns identify a row and are aligned to the left.

    Headers may wrap; cells never do. Columns that do not fit the terminal follow in a block below, next to the key
    columns again.
    """
    columns = {printable(name): [*map(printable, cells)] for name, cells in columns.items()}
    console = Console()
    headers = {name: re.findall(r"[^_./]*[_./]|[^_./]+", name) for name in columns}
    widths = {name: max(map(cell_len, [*headers[name], *columns[name]])) for name in columns}
    key_names, others = list(columns)[:keys], list(columns)[keys:]
    blocks = [[*key_names, *others[:1]]]
    for name in others[1:]:
        if _width(widths, [*blocks[-1], name]) <= console.width:
            blocks[-1].append(name)
        else:
            blocks.append([*key_names, name])
    # flushed here and captured below: if the reader of a pipe is gone, rich would end the process itself
    print(f"\n{printable(title)}\n", flush=True)
    for block in blocks:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, width=_width(widths, block))
        for name in block:
            header = Text("\n".join(headers[name]))
            table.add_column(header, justify="left" if name in key_names else "right", vertical="bottom", no_wrap=True)
        for row in zip(*(columns[name] for name in block), strict=True):
            table.add_row(*map(Text, row))
        with console.capture() as printed:
            console.print(table, crop=False)
        print(printed.get(), flush=True)


def _width(widths: Mapping[str, int], block: Sequence[str]) -> int:
    return sum(widths[name] + 1 for name in block) - 1


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten each option to as many of its last parts as distinguish it from the others.

    For example `width`, or `classifier.width` if there is also `encoder.width`.
    """
    return [
        next((end for end in _ends(name) if sum(end in _ends(other) for other in names) == 1), name) for name in names
    ]


def _ends(name: str) -> list[str]:
    return [name[found.end() :] for found in reversed(list(re.finditer("[./]", name)))] + [name]


def decimals(values: Iterable[float]) -> int:
    """Return the number of decimals of a column: two if a value is 10 or more, as in degrees, otherwise four."""
    return 2 if max(map(abs, values), default=0) >= 10 else 4


def write_table(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write columns as CSV."""
    with atomic_write(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
