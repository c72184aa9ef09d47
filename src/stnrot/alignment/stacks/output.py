"""Where the aligned frames of a stack go: a folder of files, or one TIFF file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from stnrot.alignment.stacks.frames import Frame
from stnrot.data.tiff_stack import TiffStack
from stnrot.errors import InputError
from stnrot.runs.atomic_write import atomic_write, sweep

TIFF = (".tif", ".tiff")
DEEP = ("I", "F")  # modes that PNG lacks


class FolderOutput:
    """A folder with a file for each frame, named after it: TIFF stays TIFF, other formats become PNG.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out
        self.table, self.plot = out / "drift.csv", out / "drift.png"

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Make the folder.

        Raises:
            InputError: if the frames cannot be written there.
        """
        counts = Counter([frame.stem.casefold() for frame in frames] + [self.plot.stem])
        for frame in frames:
            if counts[frame.stem.casefold()] > 1:
                raise InputError(
                    f"two files of the folder {self._folder} would have the name {frame.stem}: rename the frame "
                    f"{frame.name}, or write one file with --out stack.tif"
                )
        self._folder.mkdir(exist_ok=True)
        if not self.table.exists() and any(path.name[0] != "." for path in self._folder.iterdir()):
            raise InputError(
                f"the folder {self._folder} has other files: expected an empty folder, or one of an earlier run"
            )

    def open(self, first: Image.Image, count: int) -> None:
        """Remove what a killed process has left."""
        sweep(self._folder)

    def has(self, frame: Frame) -> bool:
        """Return whether the frame is written."""
        return any((self._folder / f"{frame.stem}{suffix}").exists() for suffix in (frame.path.suffix, ".png", ".tif"))

    def write(self, number: int, frame: Frame, image: Image.Image) -> None:
        """Write a frame. Several threads may do so."""
        suffix = frame.path.suffix if frame.path.suffix.lower() in TIFF else ".tif" if image.mode in DEEP else ".png"
        with atomic_write(self._folder / f"{frame.stem}{suffix}") as new:
            image.save(new, "PNG" if suffix == ".png" else "TIFF")

    def flush(self) -> None:
        """Do nothing: each file is flushed."""

    def close(self) -> None:
        """Do nothing: each file is closed."""


class FileOutput:
    """A TIFF file with a page for each frame. The page of a frame that failed is black.

    Args:
        out: the file.
    """

    def __init__(self, out: Path) -> None:
        self._file = out
        self._stack: TiffStack | None = None
        self._turn = Lock()
        self.table, self.plot = (out.with_name(f"{out.stem}_drift{suffix}") for suffix in (".csv", ".png"))

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Raise InputError if the file is another one, which would be lost."""
        if self._file.exists() and not self.table.exists():
            raise InputError(f"{self._file} exists without its table {self.table}: remove it, or choose another --out")

    def open(self, first: Image.Image, count: int) -> None:
        """Open the file, or make one with a black page for each frame."""
        self._stack = TiffStack(self._file, np.asarray(first), count)

    def has(self, frame: Frame) -> bool:
        """Return whether the file exists. The table has the frames in it."""
        return self._file.exists()

    def write(self, number: int, frame: Frame, image: Image.Image) -> None:
        """Write a frame. Several threads may do so."""
        assert self._stack is not None
        with self._turn:
            self._stack.write(number, np.asarray(image))

    def flush(self) -> None:
        """Write all frames to the disk."""
        assert self._stack is not None
        self._stack.flush()

    def close(self) -> None:
        """Close the file."""
        if self._stack is not None:
            self._stack.close()


def stack_output(out: Path) -> FolderOutput | FileOutput:
    """Return the output of a path: a TIFF file by its suffix, else a folder.

    Raises:
        InputError: if nothing can be written there.
    """
    is_file = out.suffix.lower() in TIFF
    if not is_file and (out.is_file() or out.suffix.lower() in Image.registered_extensions()):
        raise InputError(f"--out {out}: expected a folder, or a TIFF file such as {out.stem}.tif, for a stack")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    if is_file and out.is_dir():
        raise InputError(f"--out {out} is a folder: expected a name without {out.suffix} for a folder")
    return FileOutput(out) if is_file else FolderOutput(out)
