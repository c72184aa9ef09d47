"""`stnrot align --stack`: align the frames of a series, and draw their drift."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stnrot.alignment.motion_kind import MotionKind
from stnrot.alignment.stacks.reference_kind import ReferenceKind
from stnrot.errors import InputError, needs_extra
from stnrot.printed import printable

if TYPE_CHECKING:
    from stnrot.runs.tables.growing_table import Row

UNSURE = 0.5  # confidence


def align_frames(
    frames: Sequence[Path], out: Path, to: ReferenceKind, motion: MotionKind, ckpt: Path | None, trust: Sequence[str]
) -> int:
    """Align the frames, draw the plot, and return 0, or 1 if a frame has an error."""
    from stnrot.alignment.stacks.output import stack_output
    from stnrot.alignment.stacks.stack import align_stack

    rows = align_stack(frames, out, to=to, motion=motion, checkpoint=ckpt, trust=trust)
    output = stack_output(out)
    try:
        draw_drift(rows, output.plot, scaled=motion == "similarity")
    except InputError as error:  # the frames and the table are written
        print(printable(f"no {output.plot}: {error}"), file=sys.stderr)
    failed = sum(bool(row["error"]) for row in rows)
    unsure = sum(not row["error"] and float(row["confidence"]) < UNSURE for row in rows)
    print(
        printable(f"{len(rows)} frames in {out}, their drift in {output.table}")
        + (f", {unsure} with a confidence below {UNSURE}" if unsure else "")
        + (f", {failed} with an error: see that column" if failed else "")
    )
    return int(failed > 0)


def draw_drift(rows: "Sequence[Row]", file: Path, scaled: bool) -> None:
    """Draw angle and shift over the frames, and the scale if it differs. Frames with an error are gaps."""
    import numpy as np
    from PIL import Image

    from stnrot.runs.atomic_write import atomic_write

    with needs_extra("the plot of the drift"):
        from stnrot.callbacks.figures import new_figure, to_pixels

    columns = ("angle_deg", "shift_x", "shift_y", "scale", "confidence")
    angle, x, y, scale, sure = (np.array([float(row[name] or "nan") for row in rows]) for name in columns)
    known = np.isfinite(angle)
    angle[known] = np.unwrap(angle[known], period=360)
    time = np.arange(1, len(rows) + 1)
    panels: list[tuple[str, dict[str, Any]]] = [
        ("angle (degrees)", {"": angle}),
        ("shift (pixels)", {"to the right": x, "down": y}),
        *([("scale", {"": scale})] if scaled else []),
    ]
    figure = new_figure(7.2, 240 * len(panels) / 100)
    for place, (what, curves) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, place, ylabel=what, xlim=(0.5, len(rows) + 0.5))
        for name, values in curves.items():
            (line,) = axes.plot(time, values, ".-", linewidth=0.8, markersize=3, label=name)
            unsure = sure < UNSURE
            axes.plot(time[unsure], values[unsure], "x", color=line.get_color())
        if len(curves) > 1:
            axes.legend(fontsize=8)
    axes.set_xlabel("frame" + (f"; x: confidence below {UNSURE}" if (sure < UNSURE).any() else ""))
    with atomic_write(file) as new:
        Image.fromarray(to_pixels(figure)).save(new, "PNG")
