"""Align the frames of a stack to one another. An interrupted call can be resumed."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from stnrot.alignment.aligner import Aligner
from stnrot.alignment.motion_kind import STACK_DEFAULT, MotionKind
from stnrot.alignment.stacks.drift_table import (
    COLUMNS,
    finished_frames,
    first_cells,
    motion_of,
    number_cells,
    write_table,
)
from stnrot.alignment.stacks.frame_alignment import Align, AlignedFrame, ToOne, ToPrevious, aligned_frames
from stnrot.alignment.stacks.frames import DecodedFrame, Frame, list_frames, portions, read_frame
from stnrot.alignment.stacks.mean_frame import has_mean, mean_frame
from stnrot.alignment.stacks.output import FileOutput, FolderOutput, stack_output
from stnrot.alignment.stacks.reference_kind import FIRST, ReferenceKind
from stnrot.arguments import checked
from stnrot.errors import InputError
from stnrot.machine import thread_pool
from stnrot.runs.tables.growing_table import Row, csv_line, error_text, locked, model_name, progress_bar

Result: TypeAlias = tuple[Frame, AlignedFrame | DecodedFrame | InputError]  # the first frame is not aligned


@checked
def align_stack(
    frames: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    to: ReferenceKind = FIRST,
    motion: MotionKind = STACK_DEFAULT,
    checkpoint: str | Path | None = None,
    trust: Iterable[str] = (),
) -> list[Row]:
    """Align the frames of a series, and write them and the drift table.

    The frames are read, aligned and written in portions, so the memory does not grow with their number. A second call
    with the same arguments resumes the first: it aligns the frames that are missing, were added, or have an error.

    Args:
        frames: files, folders of files, or TIFF files of several pages, in order. The files of a folder are sorted by
            their names, and frame2 comes before frame10.
        out: a folder, which gets a file for each frame, `drift.csv` and, from the command, `drift.png`. Or a TIFF file
            such as `stack.tif`, which gets a page for each frame, beside `stack_drift.csv`; all frames must have one
            mode of pixels then. Mode and bits are those of the frames, height and width those of the first frame.
        to: what a frame is aligned to. `first`: the first frame. `previous`: the frame before it that has no error;
            the motions are composed. `mean`: the mean of all frames as they are aligned to the first. In all three, the
            aligned frames lie on the first one.
        motion: what may differ, as in `align`.
        checkpoint: of an encoder, as in `Aligner`.
        trust: packages, as in `Aligner`.

    Returns:
        The rows of the drift table, as texts. `angle_deg` (counter-clockwise), `shift_x`, `shift_y` (where the middle
        of the frame lies, from the middle of the first, in pixels to the right and down), `scale` and `overlap` are
        those of `Alignment`, onto the first frame. `confidence` is that of the alignment to the reference. `error` says
        why a frame has none of them.

    Raises:
        InputError: if the first frame cannot be read, or `out` has other frames or those of other options.
    """
    out, ckpt = Path(out), None if checkpoint is None else Path(checkpoint)
    paths = [frames] if isinstance(frames, str | Path) else frames
    output = stack_output(out)
    listed = list_frames([Path(path) for path in paths], (out, output.table, output.plot))
    aligner = Aligner(ckpt, trust=trust)
    options = {"to": to, "motion": motion, "model": model_name(ckpt)}
    try:
        output.prepare(listed)
        with locked(output.table):
            return _align_missing(listed, output, aligner, options)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
    finally:
        output.close()


def _align_missing(
    frames: Sequence[Frame], output: FolderOutput | FileOutput, aligner: Aligner, options: Row
) -> list[Row]:
    """Align the frames that the output lacks. Return the rows of all."""
    number = {frame.name: k for k, frame in enumerate(frames)}
    found = finished_frames(output.table, list(number), options)
    rows = {frame.name: found[frame.name] for frame in frames if frame.name in found and output.has(frame)}
    missing = [k for name, k in number.items() if name not in rows]
    mean_file = output.table.with_name(f".{output.table.stem}_mean.npz")
    if missing:
        first = _first(frames[0], aligner, options["motion"])
        if options["to"] == "mean" and rows and not has_mean(mean_file, frames, options):
            raise InputError(
                f"{output.table} has frames that were aligned to the mean of other frames: choose another --out"
            )
        mode = first.mode if isinstance(output, FileOutput) else None
        write_table(output.table, list(number), rows)
        output.open(first.pixels.restore(first.pixels.planes), len(frames))
        with (
            output.table.open("a", newline="", encoding="utf-8") as file,
            progress_bar(len(frames), len(rows)) as progress,
            thread_pool() as pool,
        ):
            for portion in _results(frames, missing, first, mode, rows, aligner, options, mean_file):
                places = [number[frame.name] for frame, _ in portion]
                list(pool.map(partial(_write, output), places, portion))
                new = [_row(result) | options for result in portion]
                output.flush()  # before the rows: what the table has is written
                file.writelines(csv_line(row, COLUMNS) for row in new)
                file.flush()
                rows.update((row["frame"], row) for row in new)
                progress.advance(progress.task_ids[0], len(new))
        write_table(output.table, list(number), rows)
    if not any(row["error"] for row in rows.values()):
        mean_file.unlink(missing_ok=True)
    return [rows[name] for name in number]


def _first(frame: Frame, aligner: Aligner, motion: MotionKind) -> DecodedFrame:
    """Read the first frame. Aligned to itself, it shows what keeps all others from being aligned to it."""
    try:
        first = read_frame(frame, aligner.channels or 1)
        aligner(first.compared, first.compared, motion)
    except InputError as error:
        raise InputError(f"no frame can be aligned to the first, {frame.name}: {error}; leave it out") from error
    return first


def _results(
    frames: Sequence[Frame],
    missing: Sequence[int],
    first: DecodedFrame,
    mode: str | None,
    rows: dict[str, Row],
    aligner: Aligner,
    options: Row,
    mean_file: Path,
) -> Iterator[list[Result]]:
    """Yield the results of the missing frames, in order. `rows` has those of all frames before them."""
    motion, channels = options["motion"], first.compared.shape[1]
    align: Align = ToOne(aligner, motion, first.compared)
    if options["to"] == "mean":
        align = ToOne(aligner, motion, mean_frame(align, first.compared, frames, mode, mean_file, options))
    elif missing[0] == 0:
        yield [(frames[0], first)]
        missing = missing[1:]
    for _, group in groupby(enumerate(missing), key=lambda item: item[1] - item[0]):
        run = [number for _, number in group]
        if options["to"] == "previous":
            before = next(frames[k] for k in range(run[0] - 1, -1, -1) if not rows[frames[k].name]["error"])
            previous = read_frame(before, channels).compared
            align = ToPrevious(aligner, motion, first.compared, previous, motion_of(rows[before.name]))
        for portion in portions([frames[k] for k in run], channels, mode):
            yield list(aligned_frames(portion, align))


def _write(output: FolderOutput | FileOutput, number: int, result: Result) -> None:
    frame, found = result
    if isinstance(found, DecodedFrame):
        output.write(number, frame, found.pixels.restore(found.pixels.planes))
    elif isinstance(found, AlignedFrame):
        pixels = found.decoded.pixels
        output.write(number, frame, pixels.restore(found.moved(pixels.planes)))


def _row(result: Result) -> Row:
    frame, found = result
    row = dict.fromkeys(COLUMNS, "") | {"frame": frame.name}
    if isinstance(found, InputError):
        return row | {"error": error_text(found)}
    return row | (first_cells() if isinstance(found, DecodedFrame) else number_cells(found.alignment, found.place))
