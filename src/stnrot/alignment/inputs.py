"""Images as a user passes them: bring them to one form and check them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stnrot.alignment.motion_kind import MotionKind
from stnrot.data.image_file import MAX_PIXELS, ImageHeader, read_header, read_whole
from stnrot.errors import InputError
from stnrot.geometry.planar import inscribed_disc
from stnrot.image_kinds import FloatImages, ImageKind, joined, to_floats

Images: TypeAlias = ImageKind | str | Path | Sequence[ImageKind | str | Path]

MIN_SIDE = 8  # pixels
MAX_RATIO = 32  # of the shorter sides, if one image is searched for in the other: more takes minutes
EXPECTED = "a tensor, a NumPy array, a PIL image, the path of an image, or a list of these"


@dataclass(frozen=True)
class PassedImages:
    """The images that a user passed as one argument.

    Attributes:
        floats: what is aligned.
        parts: the items of a list; or one part, which may be a batch of images.
        is_list: whether a list was passed.
    """

    floats: Float[Tensor, "B C H W"]
    parts: Sequence[FloatImages]
    is_list: bool


def read_pair(
    image: Images, reference: Images, channels: int | None, motion: MotionKind
) -> tuple[PassedImages, Float[Tensor, "R C h w"]]:
    """Return the images, and the references as floats. There are as many references as images, or one for all.

    Args:
        image: see `align`.
        reference: see `align`.
        channels: that files, arrays and PIL images are converted to. None: as many as a tensor that comes with them
            has. If no tensor comes, 1 if an image is grey, else 3.
        motion: see `align`.

    Raises:
        InputError: names the image that cannot be aligned.
    """
    named = _named(image, "image"), _named(reference, "reference")
    items = [[(name, _opened(each, name)) for name, each in role] for role in named]
    if channels is None:
        channels = _channels([each for _, each in items[0] + items[1]])
    images = _as_batch(items[0], channels, motion, isinstance(image, Sequence))
    references = _as_batch(items[1], channels, motion, isinstance(reference, Sequence)).floats
    count, reference_count = len(images.floats), len(references)
    if reference_count not in (1, count):
        raise InputError(
            f"{count} images and {reference_count} references: expected a reference for each image, or one for all"
        )
    size, reference_size = images.floats.shape[1], references.shape[1]
    if size != reference_size:
        raise InputError(f"the image has {size} channels, the reference {reference_size}: expected the same number")
    if motion != "rotation":
        _check_ratio((items[0][0][0], images.floats), (items[1][0][0], references))
    return images, references.to(images.floats.device)


def common_channels(headers: Sequence[ImageHeader]) -> int:
    """Return 1 if one of the images is grey, else 3."""
    return 1 if any(header.is_grey for header in headers) else 3


def read_image(path: Path, channels: int | None) -> UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]:
    """Decode an image file: 8 bits as bytes, more bits as floats whose range ends at 1.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for colour, None for those of the file.
    """
    if channels is None:
        channels = common_channels([read_header(path, MAX_PIXELS)])
    return torch.from_numpy(read_whole(path, channels, MAX_PIXELS)).permute(2, 0, 1)


def _check_ratio(*named: tuple[str, Float[Tensor, "_ C _ _"]]) -> None:
    """Raise InputError if one of two images is far too small for the other."""
    (small, height, width), (large, rows, columns) = sorted(
        ((name, *images.shape[-2:]) for name, images in named), key=lambda each: min(each[1:])
    )
    if min(rows, columns) > MAX_RATIO * min(height, width):
        raise InputError(
            f"{large} is {columns} x {rows}, {small} is {width} x {height}: expected shorter sides that differ by a "
            f"factor of at most {MAX_RATIO}; crop {large} to where {small} may be, or show more in {small}"
        )


def _named(images: object, role: str) -> list[tuple[str, Any]]:
    """Return the images of an argument, each with its name in error messages."""
    if isinstance(images, str | Path):
        return [(str(images), Path(images))]
    if not isinstance(images, Sequence) or isinstance(images, bytes):
        return [(role, images)]
    if not images:
        raise InputError(f"{role}: expected at least one image, got an empty list")
    return [
        (str(each), Path(each)) if isinstance(each, str | Path) else (f"{role}[{k}]", each)
        for k, each in enumerate(images)
    ]


def _opened(image: object, name: str) -> Path | FloatImages:
    return image if isinstance(image, Path) else to_floats(image, name, EXPECTED)


def _channels(items: Sequence[Path | FloatImages]) -> int:
    """Return the channels of the first tensor. Without a tensor return 1 if one of the images is grey, else 3."""
    parts = [each for each in items if isinstance(each, FloatImages)]
    for part in parts:
        if not part.converts:
            return part.planes.shape[1]
    if any(part.colours.shape[1] == 1 for part in parts):
        return 1
    return common_channels([read_header(path, MAX_PIXELS) for path in items if isinstance(path, Path)])


def _as_batch(
    items: list[tuple[str, Path | FloatImages]], channels: int, motion: MotionKind, is_list: bool
) -> PassedImages:
    names = [name for name, _ in items]
    parts = [_decoded(each, channels) if isinstance(each, Path) else each for _, each in items]
    floats = [part.with_channels(channels) for part in parts]
    batch = floats[0] if len(floats) == 1 else joined(floats, names)
    if len(batch) > len(names):
        names = [f"{names[0]}[{k}]" for k in range(len(batch))]
    _check(batch, names, motion)
    return PassedImages(batch, parts, is_list)


def _decoded(path: Path, channels: int) -> FloatImages:
    planes = to_floats(read_whole(path, 1 if channels == 1 else 3, MAX_PIXELS), str(path)).planes
    return FloatImages(planes, has_alpha=False, converts=False, restore=lambda planes: planes)


def _check(images: Float[Tensor, "B C H W"], names: list[str], motion: MotionKind) -> None:
    """Raise InputError for an image in which no motion can be seen."""
    height, width = images.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{names[0]} is {width} x {height}: expected sides of at least {MIN_SIDE} pixels")
    if not math.isfinite(images.sum().item()):  # the sum is infinite or NaN if a value is; else only in rare cases
        finite = images.isfinite().flatten(1).all(1)
        if not finite.all():
            name = names[int((~finite).nonzero()[0])]
            raise InputError(f"{name} contains NaN or infinite values: expected finite values everywhere")
    left = (width - min(height, width)) // 2
    row = images[..., height // 2, left : width - left].numpy(force=True)
    if (row != row[..., :1]).any((1, 2)).all():  # true of most images, and fast to compute
        return
    middle = images[..., height // 2, width // 2][..., None, None]
    differs = images != middle
    if motion == "rotation":
        differs = differs & inscribed_disc((height, width), images.device)
    structured = differs.flatten(1).any(1)
    if not structured.all():
        name = names[int((~structured).nonzero()[0])]
        where, what = (" inside its inscribed disc", "rotation") if motion == "rotation" else ("", "motion")
        raise InputError(f"{name} has one colour{where}: no {what} of it can be seen; expected structure{where}")
