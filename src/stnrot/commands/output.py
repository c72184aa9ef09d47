"""The image that a command writes: its path is checked before the work begins."""

from pathlib import Path

import numpy as np
from PIL import Image

from stnrot.errors import InputError
from stnrot.regular_file import check_regular, real
from stnrot.runs.atomic_write import atomic_write


def check_output(out: Path, *inputs: Path) -> None:
    """Raise InputError if no image can be written to `out`, or if it is one of the input images."""
    if real(out) in map(real, inputs):
        raise InputError(f"--out {out} is an input image: expected another file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    check_regular(out)  # a named pipe waits for a reader
    if out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"--out {out}: expected the name of an image file, such as {out.stem}.png")


def write_image(pixels: np.ndarray, out: Path) -> None:
    """Write pixels, [H, W] or [H, W, 3], to an image file."""
    try:
        with atomic_write(real(out)) as new:  # a link stays a link
            Image.fromarray(pixels).save(new, Image.registered_extensions()[out.suffix.lower()])
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
