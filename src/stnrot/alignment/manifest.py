"""Align a list of pairs: a table that grows row by row and survives whatever stops it."""

import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from stnrot.alignment.aligner import Aligner
from stnrot.alignment.inputs import MAX_PIXELS, common_channels, read_file
from stnrot.data.image_file import count_pixels
from stnrot.data.sources.manifest import pair_files, read_manifest
from stnrot.errors import InputError

COLUMNS = ("line", "image", "reference", "angle_deg", "confidence", "model", "error")
MOST = 64  # pairs that are read together
VALUES = 2**24  # of their pictures

Row = dict[str, Any]
Pair = tuple[Tensor, Tensor]


def align_manifest(manifest: Path, out: Path, ckpt: Path | None) -> int:
    """Align the pairs of a CSV file, write `out`, return 0, or 1 if there are rows with an error.

    Columns of the table: the line of the manifest, its two paths, the angle that turns the image onto the reference,
    the confidence, the model, and what is wrong with a pair that could not be aligned. Rows that the table has already
    are not done again, but for those with an error.
    """
    rows = [
        {"line": line, "image": row["image"] or "", "reference": row["reference"] or ""}
        for line, row in read_manifest(manifest)[0]
    ]
    aligner = Aligner(ckpt)
    model = "correlation" if ckpt is None else f"{ckpt.name} {sha256(ckpt.read_bytes()).hexdigest()[:12]}"
    failed = 0
    try:
        with _alone(out):
            done = _done(out, rows, model)
            waiting = [row for row in rows if row["line"] not in done]
            with out.open("a", newline="", encoding="utf-8") as file, _progress(len(rows), len(done)) as progress:
                for row in _aligned(aligner, manifest, waiting):
                    file.write(_line(row | {"model": model}))
                    file.flush()
                    failed += bool(row["error"])
                    progress.advance(progress.task_ids[0])
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}") from error
    print(f"{len(rows)} pairs in {out}" + (f", {failed} with an error: see that column" if failed else ""))
    return int(failed > 0)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second process off the table, whose rows the first would overwrite."""
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"cannot write {out}: expected a file, such as results.csv, in a folder that exists")
    target = out.resolve()  # one table may have several names
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            try:
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise InputError(f"{out} is being written by another process: let it end or choose another --out") from error


def _done(out: Path, rows: list[Row], model: str) -> set[int]:
    """Return the lines that the table has; take out rows without an angle and one that was half written."""
    try:
        written = out.read_bytes() if out.exists() else b""
        whole = written[: written.rfind(b"\n") + 1].decode()
        reader = csv.DictReader(io.StringIO(whole, newline=""), strict=True)
        found = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {out}: {error}; choose another --out") from error
    header = _line(dict(zip(COLUMNS, COLUMNS, strict=True)))
    if tuple(reader.fieldnames or ()) != COLUMNS and not header.encode().startswith(written):
        raise InputError(f"{out} is not a table of this command: choose another --out")
    asked = {str(row["line"]): row for row in rows}
    kept = {row["line"]: row for row in found if row["angle_deg"] and not row["error"]}
    for row in kept.values():
        want = asked.get(row["line"])
        if want is None or (row["image"], row["reference"]) != (want["image"], want["reference"]):
            raise InputError(f"{out} has the results of another manifest (line {row['line']}): choose another --out")
        if row["model"] != model:
            raise InputError(f"{out} was begun with the model {row['model']}, this is {model}: choose another --out")
    table = header + "".join(map(_line, kept.values()))
    if table.encode() != written:
        target = out.resolve()
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_text(table, encoding="utf-8", newline="")
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    return set(map(int, kept))


def _line(row: Row) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS).writerow(row)
    return text.getvalue()


def _progress(total: int, completed: int) -> Progress:
    columns = (TextColumn("align"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(file=sys.stderr))
    progress.add_task("align", total=total, completed=completed)
    return progress


def _aligned(aligner: Aligner, manifest: Path, rows: list[Row]) -> Iterator[Row]:
    """Yield the finished rows, in order; pairs of the same sizes that follow each other are aligned together."""

    def read(row: Row) -> Pair | InputError:
        try:
            files = pair_files(manifest, row["line"], row)
            channels = aligner.channels or common_channels(files)
            first, second = (read_file(file, channels) for file in files)
            return first, second
        except InputError as error:
            return error
        except OSError as error:  # a name that no file can have, a folder that may not be entered
            return InputError(f"{manifest}, line {row['line']}: {error}")

    with ThreadPoolExecutor() as pool:
        for some in _portions(manifest, rows):
            for size, group in groupby(zip(some, pool.map(read, some), strict=True), key=lambda item: _size(item[1])):
                items: list[Any] = list(group)
                yield from _results(aligner, items) if size else (_failed(*item) for item in items)


def _portions(manifest: Path, rows: list[Row]) -> Iterator[list[Row]]:
    """Cut the list where the pictures, by their headers, would take more memory than they may together."""
    some: list[Row] = []
    values = 0
    for row in rows:
        try:
            more = 3 * sum(count_pixels(file, MAX_PIXELS) for file in pair_files(manifest, row["line"], row))
        except (InputError, OSError):
            more = 0  # it will be said when they are read
        if some and (values + more > VALUES or len(some) == MOST):
            yield some
            some, values = [], 0
        some.append(row)
        values += more
    if some:
        yield some


def _failed(row: Row, error: InputError) -> Row:
    return row | {"error": " ".join(str(error).split())}


def _size(pair: Pair | InputError) -> tuple[Any, ...] | None:
    return None if isinstance(pair, InputError) else tuple((picture.shape, picture.dtype) for picture in pair)


def _results(aligner: Aligner, items: list[tuple[Row, Pair]]) -> Iterable[Row]:
    """Align pairs at once; if one of them cannot be aligned, each by itself."""
    try:
        images, references = (torch.stack([pair[k] for _, pair in items]) for k in (0, 1))
        found = aligner(images, references)
    except InputError as error:
        if len(items) == 1:
            return [_failed(items[0][0], error)]
        return [row for item in items for row in _results(aligner, [item])]
    numbers = zip(found.angle.tolist(), found.confidence.tolist(), strict=True)
    return [
        row
        | {"angle_deg": f"{round(math.degrees(angle), 4) + 0.0:.4f}", "confidence": f"{confidence:.4f}", "error": ""}
        for (row, _), (angle, confidence) in zip(items, numbers, strict=True)
    ]
