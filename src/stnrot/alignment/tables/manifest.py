"""Align the pairs of a CSV table. The results are written row by row, so an interrupted run can be resumed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stnrot.alignment.aligner import Aligner
from stnrot.alignment.inputs import common_channels, read_image
from stnrot.alignment.motion_kind import MotionKind
from stnrot.alignment.tables.result_table import MATRIX, columns, finished_lines
from stnrot.data.image_file import MAX_PIXELS, read_header
from stnrot.data.sources.manifest import pair_files, read_manifest
from stnrot.errors import InputError
from stnrot.machine import thread_pool
from stnrot.printed import printable
from stnrot.runs.tables.growing_table import Row, csv_line, error_text, locked, model_name, number_texts, progress_bar
from stnrot.runs.tables.share import ALL, Share

MAX_PAIRS = 64  # that are read together
MAX_VALUES = 2**24  # of their images

ImagePair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pair:
    """A row of the manifest, and facts from the headers of its two files."""

    row: Row
    files: tuple[Path, ...] = ()
    channels: int = 0
    values: int = 0  # of both images in colour
    error: InputError | None = None  # why a header cannot be read


def align_manifest(
    manifest: Path, out: Path, motion: MotionKind, ckpt: Path | None, trust: Sequence[str] = (), share: Share = ALL
) -> int:
    """Align the pairs of a CSV file, write the table `out`, and return 0, or 1 if a row has an error.

    The table has a row for each pair: the line in the manifest, the two paths, the angle that rotates the image onto
    the reference, the confidence, the model, and the error message of a pair that failed. If more than the angle is
    searched, it also has the shift, the scale, the overlap, the matrix and the motion. If the table exists, only the
    missing rows and those with an error are computed. Of several machines each takes a share of the pairs.
    """
    rows = [
        {"line": line, "image": row["image"] or "", "reference": row["reference"] or ""}
        for line, row in share.of(read_manifest(manifest)[0])
    ]
    aligner = Aligner(ckpt, trust=trust)
    model = model_name(ckpt)
    same = {"model": model} if motion == "rotation" else {"model": model, "motion": motion}
    failed = 0
    try:
        with locked(out):
            done = finished_lines(out, rows, motion, model)
            open_rows = [row for row in rows if row["line"] not in done]
            table = out.open("a", newline="", encoding="utf-8", errors="surrogateescape")  # names of files
            with table as file, progress_bar(len(rows), len(done)) as progress:
                for row in _aligned(aligner, motion, manifest, open_rows):
                    file.write(csv_line(row | same, columns(motion)))
                    file.flush()
                    failed += bool(row["error"])
                    progress.advance(progress.task_ids[0])
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
    print(printable(f"{len(rows)} pairs in {out}") + (f", {failed} with an error: see that column" if failed else ""))
    return int(failed > 0)


def _aligned(aligner: Aligner, motion: MotionKind, manifest: Path, rows: list[Row]) -> Iterator[Row]:
    """Yield the finished rows in order. Consecutive pairs of the same sizes are aligned together."""
    pairs = (_inspect(manifest, row, aligner.channels) for row in rows)
    with thread_pool() as pool:
        for portion in _portions(pairs):
            decoded = zip((pair.row for pair in portion), pool.map(_decode, portion), strict=True)
            for size, group in groupby(decoded, key=lambda item: _size(item[1])):
                items: list[Any] = list(group)
                yield from _results(aligner, motion, items) if size else (_failed(*item) for item in items)


def _inspect(manifest: Path, row: Row, channels: int | None) -> Pair:
    """Read the headers of the two files of a row."""
    try:
        files = pair_files(manifest, row["line"], row)
        headers = [read_header(file, MAX_PIXELS) for file in files]
    except InputError as error:
        return Pair(row, error=error)
    except OSError as error:  # a name that no file can have, or a folder without permission
        return Pair(row, error=InputError(f"{manifest}, line {row['line']}: {error}"))
    return Pair(row, files, channels or common_channels(headers), 3 * sum(each.pixels for each in headers))


def _portions(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Split the pairs into lists whose images fit into memory together."""
    portion: list[Pair] = []
    for pair in pairs:
        if portion and (sum(each.values for each in portion) + pair.values > MAX_VALUES or len(portion) == MAX_PAIRS):
            yield portion
            portion = []
        portion.append(pair)
    if portion:
        yield portion


def _decode(pair: Pair) -> ImagePair | InputError:
    if pair.error is not None:
        return pair.error
    try:
        image, reference = (read_image(file, pair.channels) for file in pair.files)
        return image, reference
    except InputError as error:
        return error


def _size(images: ImagePair | InputError) -> tuple[Any, ...] | None:
    return None if isinstance(images, InputError) else tuple((image.shape, image.dtype) for image in images)


def _failed(row: Row, error: InputError) -> Row:
    return row | {"error": error_text(error)}


def _results(aligner: Aligner, motion: MotionKind, items: list[tuple[Row, ImagePair]]) -> Iterable[Row]:
    """Align pairs together. If that fails, align each alone, to find the one that fails."""
    try:
        images, references = (torch.stack([pair[k] for _, pair in items]) for k in (0, 1))
        found = aligner(images, references, motion)
    except InputError as error:
        if len(items) == 1:
            return [_failed(items[0][0], error)]
        return [row for item in items for row in _results(aligner, motion, [item])]
    cells = {"angle_deg": number_texts(found.angle.double().rad2deg()), "confidence": number_texts(found.confidence)}
    if motion != "rotation":
        x, y = found.shift.unbind(1)
        cells |= {"shift_x": number_texts(x), "shift_y": number_texts(y)}
        cells |= {"scale": number_texts(found.scale, 6), "overlap": number_texts(found.overlap)}
        for name, values in zip(MATRIX, found.matrix.flatten(1).unbind(1), strict=True):
            cells[name] = number_texts(values, 7)  # a point at 2,000 pixels is then off by less than 0.001 pixels
    return [
        row | dict(zip(cells, texts, strict=True)) | {"error": ""}
        for (row, _), *texts in zip(items, *cells.values(), strict=True)
    ]
