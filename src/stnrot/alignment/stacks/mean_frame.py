"""The mean of the frames of a stack, each aligned to the first."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.alignment.stacks.frame_alignment import Align, AlignedFrame, aligned_frames
from stnrot.alignment.stacks.frames import Frame, portions
from stnrot.regular_file import check_regular
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.checkpoint_file import check_stored
from stnrot.runs.tables.growing_table import Row, progress_bar


def mean_frame(
    align: Align, first: Float[Tensor, "1 C H W"], frames: Sequence[Frame], mode: str | None, file: Path, options: Row
) -> Float[Tensor, "1 C H W"]:
    """Return the mean at each pixel of the frames that show it, and of the first. Frames that fail are left out.

    Args:
        align: aligns frames to the first.
        first: frame.
        frames: all frames.
        mode: that they must have; None: any.
        file: keeps the sums after each portion of frames, to resume them, and at the end.
        options: with which it is made. A file of other options or frames is not resumed.
    """
    made_from = json.dumps([[frame.name for frame in frames], options])
    total, weight, done = _resumed(file, made_from, first) or (first.double(), torch.ones_like(first).double(), 1)
    with progress_bar(len(frames), done) as progress:
        for portion in portions(frames[done:], first.shape[1], mode):
            for _, aligned in aligned_frames(portion, align):
                if isinstance(aligned, AlignedFrame):
                    frame = aligned.decoded.compared
                    total += aligned.moved(frame)
                    weight += aligned.moved(torch.ones_like(frame))
            done += len(portion)
            with atomic_write(file) as new, new.open("wb") as opened:
                np.savez(opened, total=total.numpy(), weight=weight.numpy(), done=done, made_from=made_from)
            progress.update(progress.task_ids[0], completed=done)
    return (total / weight).to(first.dtype)


def has_mean(file: Path, frames: Sequence[Frame], options: Row) -> bool:
    """Return whether a file has the whole mean of these frames."""
    resumed = _resumed(file, json.dumps([[frame.name for frame in frames], options]))
    return resumed is not None and resumed[2] == len(frames)


def _resumed(file: Path, made_from: str, like: Tensor | None = None) -> tuple[Tensor, Tensor, int] | None:
    """Return the sums of a file, of the shape of the frame `like`; None if it has no such sums."""
    try:
        check_regular(file)
        check_stored(file)  # as `np.savez` writes it
        with np.load(file, allow_pickle=False) as saved:
            if str(saved["made_from"]) != made_from:
                return None
            total, weight, done = (
                torch.from_numpy(saved["total"]),
                torch.from_numpy(saved["weight"]),
                int(saved["done"]),
            )
    except Exception:  # a broken file can raise almost anything; the sums are then made again
        return None
    fits = like is None or total.shape == weight.shape == like.shape
    return (total, weight, done) if fits and total.dtype == weight.dtype == torch.float64 else None
