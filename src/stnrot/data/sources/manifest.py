"""Pairs of images that a CSV file lists: `image,reference[,angle_deg][,label]`."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from stnrot.data.image_set import Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.files import FileSet, memory_or_stream, split_by_seed
from stnrot.errors import InputError
from stnrot.regular_file import check_regular


@dataclass(frozen=True, kw_only=True)
class Manifest(Decoding):
    """Read the pairs that a CSV file lists, with paths relative to the file.

    `angle_deg` is the angle (degrees, counter-clockwise) that rotates the image onto the reference.

    Args:
        val_fraction: share of the pairs for validation.
        test_fraction: share of the pairs for the test.
    """

    val_fraction: float
    test_fraction: float

    def __call__(self, root: Path | None, split_seed: int) -> Splits:
        """Return the training, validation and test pairs of the CSV file `root`, split by `split_seed`."""
        if root is not None:
            check_regular(root)
        if root is None or not root.is_file():
            raise InputError(
                f"data.root={root}: expected a CSV file with the columns image,reference[,angle_deg][,label], "
                "found none; set data.root to its path"
            )
        rows, columns = read_manifest(root)
        files = [pair_files(root, line, row) for line, row in rows]
        angles = [_angle(root, line, row["angle_deg"]) for line, row in rows] if "angle_deg" in columns else None
        labels = [_label(root, line, row["label"]) for line, row in rows] if "label" in columns else None
        names = FileNames.of(str(file) for pair in files for file in pair)
        good, all_grey = self.readable(root, names, 2)
        if not len(good):
            raise InputError(f"{root}: expected at least one pair of two readable images, found none")
        classes = tuple(sorted({labels[i] for i in good})) if labels else ()
        pairs = FileSet(
            (names[::2].subset(good), names[1::2].subset(good)),
            self.with_channels(all_grey),
            torch.tensor([classes.index(labels[i]) for i in good]) if labels else None,
            torch.tensor([math.radians(angles[i]) for i in good]) if angles else None,
        )
        return memory_or_stream(*split_by_seed(pairs, split_seed, self.val_fraction, self.test_fraction), classes)


def read_manifest(path: Path) -> tuple[list[tuple[int, dict[str, str | None]]], Sequence[str]]:
    """Return the rows of a CSV file of pairs, each with its line number, and the names of the columns.

    An empty line between two rows counts as a row of empty fields: it may be a pair that was lost.
    """
    check_regular(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except FileNotFoundError:
        raise InputError(
            f"there is no file {path}: expected a CSV file with the columns image,reference; give its path"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} as CSV in UTF-8: {error}; save the table in this format") from error
    while lines and not lines[-1][1]:
        lines.pop()
    columns = lines[0][1] if lines else []
    rows = [(line, dict(zip_longest(columns, fields[: len(columns)]))) for line, fields in lines[1:]]
    for column in ("image", "reference"):
        if column not in columns:
            raise InputError(f"{path}: expected a column {column!r}, found {', '.join(columns) or 'nothing'}")
    if not rows:
        raise InputError(f"{path}: expected at least one pair below the header, found none")
    return rows, columns


def pair_files(path: Path, line: int, row: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return the two files that a row of a manifest names; raise InputError if one is missing."""
    first, second = (path.parent / (row[column] or "") for column in ("image", "reference"))
    for column, file in (("image", first), ("reference", second)):
        if not row[column]:
            raise InputError(f"{path}, line {line}: the {column} is empty: expected the path of an image")
        try:
            check_regular(file)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        if not file.is_file():
            raise InputError(
                f"{path}, line {line}: the file {file} does not exist: expected a path relative to the folder of the "
                f"table, {path.absolute().parent}; correct it"
            )
    return first, second


def _label(root: Path, line: int, text: str | None) -> str:
    if not text:
        raise InputError(f"{root}, line {line}: the label is empty: expected one in every row, or no column `label`")
    return text


def _angle(root: Path, line: int, text: str | None) -> float:
    try:
        angle = float(text or "")
    except ValueError:
        angle = math.nan
    if not math.isfinite(angle):
        raise InputError(f"{root}, line {line}: angle_deg={text!r}: expected a number of degrees")
    return angle
