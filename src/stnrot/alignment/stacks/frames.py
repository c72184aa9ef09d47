"""The frames of a stack: list them, and read them in portions that fit into memory."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stnrot.data.image_file import MAX_PIXELS, page_numbers, read_pages
from stnrot.data.sources.folder_tree import IMG_EXTENSIONS
from stnrot.errors import InputError
from stnrot.image_kinds import FloatImages, to_floats
from stnrot.regular_file import real

MAX_FRAMES = 64  # that are read together
MAX_VALUES = 2**23  # of these


@dataclass(frozen=True)
class Frame:
    """A frame of a stack.

    Attributes:
        path: of its file.
        page: its number in the file, from 0.
        name: in tables and messages.
        stem: of the name of the file with the aligned frame.
    """

    path: Path
    page: int
    name: str
    stem: str


@dataclass(frozen=True)
class DecodedFrame:
    """A frame and its pixels.

    Attributes:
        frame: the frame.
        pixels: in its own channels.
        compared: in the channels that are aligned.
        mode: of Pillow.
    """

    frame: Frame
    pixels: FloatImages
    compared: Float[Tensor, "1 C H W"]
    mode: str


def list_frames(paths: Sequence[Path], outputs: Iterable[Path]) -> list[Frame]:
    """Return the frames: files, the images of folders, the pages of TIFF files.

    In a folder frame2 comes before frame10. A shell that expands a pattern such as `*.png` puts frame10 first. So paths
    in the order of a shell are sorted as in a folder. Paths in another order keep it.

    Args:
        paths: of files and folders.
        outputs: files that the command writes itself. They are no frames, although a pattern such as *.png has them.

    Raises:
        InputError: unless there are two frames.
    """
    if list(paths) == sorted(paths):
        paths = sorted(paths, key=_by_number)
    ours = {*map(real, outputs)}
    files = [file for path in paths for file in _files(path) if real(file) not in ours]
    frames = [frame for file in files for frame in _frames(file)]
    if len(frames) < 2:
        raise InputError(
            f"the number of frames is {len(frames)}: expected at least two; give files, a folder, or a TIFF file of "
            "several pages"
        )
    name, times = Counter(frame.name for frame in frames).most_common(1)[0]
    if times > 1:
        raise InputError(f"the frame {name} came {times} times: expected each frame once")
    return frames


def read_frame(frame: Frame, channels: int) -> DecodedFrame:
    """Read one frame.

    Raises:
        InputError: if it cannot be read.
    """
    (decoded,) = _decoded([frame], channels)
    if isinstance(decoded, InputError):
        raise decoded
    return decoded


def portions(
    frames: Sequence[Frame], channels: int, mode: str | None
) -> Iterator[list[tuple[Frame, DecodedFrame | InputError]]]:
    """Read frames in order, as many together as fit into memory.

    Args:
        frames: to read.
        channels: of `DecodedFrame.compared`.
        mode: that they must have; None: any.
    """
    portion: list[Any] = []
    values = 0
    for frame, decoded in zip(frames, _decoded(frames, channels), strict=True):
        if mode is not None and isinstance(decoded, DecodedFrame) and decoded.mode != mode:
            decoded = InputError(
                f"its mode is {decoded.mode}, that of the first frame {mode}: expected one mode in a TIFF file; write "
                "the frames to a folder"
            )
        portion.append((frame, decoded))
        values += 0 if isinstance(decoded, InputError) else decoded.pixels.planes.numel() + decoded.compared.numel()
        if values >= MAX_VALUES or len(portion) == MAX_FRAMES:
            yield portion
            portion, values = [], 0
    if portion:
        yield portion


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"there is no file {path}: expected the frames of a stack, or their folder")
        return [path]
    files = [each for each in path.iterdir() if each.suffix.lower() in IMG_EXTENSIONS and each.name[0] != "."]
    if not files:
        raise InputError(f"the folder {path} has no images: expected files such as {path / 'frame1.png'}")
    return sorted(files, key=_by_number)


def _by_number(path: Path) -> tuple[list[Any], str]:
    """Return a key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], str(path)


def _frames(file: Path) -> list[Frame]:
    try:
        pages = page_numbers(file, MAX_PIXELS)
    except InputError:  # has its place in the table, with the error
        pages = [0]
    if len(pages) == 1:
        return [Frame(file, 0, str(file), file.stem)]
    return [Frame(file, page, f"{file} page {page + 1}", f"{file.stem}_{page + 1:04d}") for page in pages]


def _decoded(frames: Sequence[Frame], channels: int) -> Iterator[DecodedFrame | InputError]:
    for path, group in groupby(frames, key=lambda frame: frame.path):
        these = list(group)
        pages = read_pages(path, [frame.page for frame in these], MAX_PIXELS)
        for frame, page in zip(these, pages, strict=True):
            yield page if isinstance(page, InputError) else _as_floats(frame, page, channels)


def _as_floats(frame: Frame, page: Image.Image, channels: int) -> DecodedFrame | InputError:
    try:
        pixels = to_floats(page, frame.name)
    except InputError as error:
        return error
    mode = pixels.restore(pixels.planes[..., :1, :1]).mode
    return DecodedFrame(frame, pixels, pixels.with_channels(channels).float(), mode)
