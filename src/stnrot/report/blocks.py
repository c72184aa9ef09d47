"""What a page is made of: sections of notes, tables, pictures, matrices and samples. The template draws each kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Note:
    """A sentence, and a command that belongs to it."""

    text: str
    command: str = ""
    kind: str = "note"


@dataclass(frozen=True)
class Cell:
    """A cell of a table. A number also has its exact value; `best` marks the best of its row."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header."""

    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with the numbers that it draws. A wide picture is scrolled on a small screen."""

    image: str
    alt: str
    caption: str
    numbers: Table | None = None
    wide: bool = False
    kind: str = "picture"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: a row for each true class; `share` is that of the row."""

    caption: str
    classes: Sequence[str]
    count: Sequence[Sequence[int]]
    share: Sequence[Sequence[float]]
    kind: str = "matrix"


@dataclass(frozen=True)
class Sample:
    """Named images of one sample as data URIs, the lines below them, and whether it is wrong."""

    images: Sequence[tuple[str, str]]
    lines: Sequence[str]
    wrong: bool


@dataclass(frozen=True)
class Gallery:
    """Samples side by side."""

    caption: str
    samples: Sequence[Sample]
    kind: str = "gallery"


Block: TypeAlias = Note | Table | Picture | Matrix | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: list[Block] = field(default_factory=list)
