"""Pairs of pictures listed in a CSV file: `image,reference[,angle_deg][,label]`."""

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from stnrot.data.image_set import Splits
from stnrot.data.rng import permutation
from stnrot.data.sources.files import Decoding, FileSet, memory_or_stream, split_by_seed
from stnrot.errors import InputError


def manifest(
    root: Path | None,
    split_seed: int,
    *,
    val_fraction: float,
    test_fraction: float,
    **decoding: Any,
) -> Splits:
    """Return the pairs that the CSV file `root` lists, with paths relative to it.

    `angle_deg` turns the image, counter-clockwise, onto the reference. Arguments as in `image_folder`.
    """
    if root is None or not root.is_file():
        raise InputError(f"data.root={root}: expected a CSV file with the columns image,reference[,angle_deg][,label]")
    decode = Decoding(**decoding)
    rows, columns = read_manifest(root)
    files = [pair_files(root, line, row) for line, row in rows]
    angles = [_angle(root, line, row["angle_deg"]) for line, row in rows] if "angle_deg" in columns else None
    labels = [_label(root, line, row["label"]) for line, row in rows] if "label" in columns else None
    good, decode = decode.readable(files)
    if not good:
        raise InputError(f"{root}: no pair has two readable pictures")
    classes = tuple(sorted({labels[i] for i in good})) if labels else ()
    pairs = FileSet(
        tuple(files[i] for i in good),
        decode,
        torch.tensor([classes.index(labels[i]) for i in good]) if labels else None,
        torch.tensor([math.radians(angles[i]) for i in good]) if angles else None,
    )
    label = torch.zeros(len(pairs), dtype=torch.int64) if pairs.label is None else pairs.label
    order = permutation((split_seed,), len(pairs))
    parts = [pairs.subset(part) for part in split_by_seed(label, order, val_fraction, test_fraction)]
    train_set, val_set, test_set = memory_or_stream(parts)
    return Splits(train_set, val_set, test_set, classes)


def read_manifest(path: Path) -> tuple[list[tuple[int, dict[str, str | None]]], Sequence[str]]:
    """Return the rows, each with its line number, and the columns of a CSV file of pairs.

    An empty line between two rows is a row that lacks everything, as it may stand for a pair that got lost.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} as CSV in UTF-8: {error}") from error
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
    """Return the two files that a row of a manifest names, relative to it."""
    first, second = (path.parent / (row[column] or "") for column in ("image", "reference"))
    for column, file in (("image", first), ("reference", second)):
        if not row[column]:
            raise InputError(f"{path}, line {line}: the {column} is empty: expected the path of a picture")
        if not file.is_file():
            raise InputError(f"{path}, line {line}: the file {file} does not exist")
    return first, second


def _label(root: Path, line: int, text: str | None) -> str:
    if not text:
        raise InputError(f"{root}, line {line}: the label is empty; fill the column or leave it out")
    return text


def _angle(root: Path, line: int, text: str | None) -> float:
    try:
        angle = float(text or "")
    except ValueError:
        angle = math.nan
    if not math.isfinite(angle):
        raise InputError(f"{root}, line {line}: angle_deg must be a number of degrees, got {text!r}")
    return angle
