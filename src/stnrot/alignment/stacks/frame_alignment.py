"""Align frames of a stack: a portion at once to one reference, or each to the frame before."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.alignment.aligner import Aligner
from stnrot.alignment.alignment import Alignment
from stnrot.alignment.motion import Motion
from stnrot.alignment.motion_kind import MotionKind
from stnrot.alignment.stacks.frames import DecodedFrame, Frame
from stnrot.errors import InputError
from stnrot.models.outputs import Orientation

Align: TypeAlias = Callable[[Float[Tensor, "B C H W"]], Alignment]


@dataclass(frozen=True)
class AlignedFrame:
    """A frame and its place in an alignment of several."""

    decoded: DecodedFrame
    alignment: Alignment
    place: int

    def moved(self, planes: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 C h w"]:
        """Move planes of the frame onto the reference."""
        return self.alignment.moved(planes, self.place)


class ToOne:
    """Align frames to one reference."""

    def __init__(self, aligner: Aligner, motion: MotionKind, reference: Float[Tensor, "1 C H W"]) -> None:
        self._aligner, self._motion, self._reference = aligner, motion, reference

    def __call__(self, frames: Float[Tensor, "B C H W"]) -> Alignment:
        """Align consecutive frames of one size."""
        _check_size(frames, self._reference, self._motion)
        return self._aligner(frames, self._reference, self._motion)


class ToPrevious:
    """Align each frame to the one before, and compose the motions: all frames come to lie on the first.

    Args:
        aligner: aligns.
        motion: that is searched.
        first: frame.
        previous: the frame before those that will be aligned.
        since_first: the motion of `previous` onto `first`.
    """

    def __init__(
        self,
        aligner: Aligner,
        motion: MotionKind,
        first: Float[Tensor, "1 C H W"],
        previous: Float[Tensor, "1 C h w"],
        since_first: Motion,
    ) -> None:
        self._aligner, self._motion = aligner, motion
        self._first, self._previous, self._since_first = first, previous, since_first

    def __call__(self, frames: Float[Tensor, "B C H W"]) -> Alignment:
        """Align consecutive frames of one size, after those that were aligned before."""
        _check_size(frames, self._first, self._motion)
        if len(frames) > 1 and frames.shape[2:] != self._previous.shape[2:]:
            raise InputError("frames of two sizes cannot be aligned at once")  # the caller passes each alone
        before = torch.cat((self._previous, frames[:-1])) if len(frames) > 1 else self._previous
        found = self._aligner(frames, before, self._motion)
        steps = found.motions.first(1)
        composed = [self._since_first]
        for linear, offset in zip(steps.linear, steps.offset, strict=True):
            composed.append(Motion(linear[None], offset[None]).after(composed[-1]))
        motions = Motion.cat(composed[1:])
        self._previous, self._since_first = frames[-1:], composed[-1]
        orientation = Orientation(motions.angle, torch.zeros_like(motions.angle), found.orientation.log_posterior)
        return replace(found, orientation=orientation, motions=motions, reference=self._first)


def aligned_frames(
    portion: Iterable[tuple[Frame, DecodedFrame | InputError]], align: Align
) -> Iterator[tuple[Frame, AlignedFrame | InputError]]:
    """Align the frames of a portion, in order. Consecutive frames of one size are aligned together.

    If that fails, each is aligned alone, to find the one that fails.
    """
    for size, group in groupby(portion, key=lambda item: _size(item[1])):
        items: list[Any] = list(group)
        yield from items if size is None else _aligned(items, align)


def _aligned(
    items: list[tuple[Frame, DecodedFrame]], align: Align
) -> Iterator[tuple[Frame, AlignedFrame | InputError]]:
    try:
        found = align(torch.cat([decoded.compared for _, decoded in items]))
    except InputError as error:
        if len(items) == 1:
            yield items[0][0], error
            return
        for item in items:
            yield from _aligned([item], align)
        return
    for place, (frame, decoded) in enumerate(items):
        yield frame, AlignedFrame(decoded, found, place)


def _size(decoded: DecodedFrame | InputError) -> torch.Size | None:
    return None if isinstance(decoded, InputError) else decoded.compared.shape


def _check_size(frames: Tensor, reference: Tensor, motion: MotionKind) -> None:
    (height, width), (rows, columns) = frames.shape[-2:], reference.shape[-2:]
    if motion == "rotation" and (height, width) != (rows, columns):
        raise InputError(
            f"it is {width} x {height}, the reference {columns} x {rows}: expected one size, or --motion rigid"
        )
