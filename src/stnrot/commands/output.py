"""Where a command writes its picture: refused before the work, not after."""

from pathlib import Path

import numpy as np
from PIL import Image

from stnrot.errors import InputError


def check_output(out: Path, *inputs: Path) -> None:
    """Refuse a place that no picture can be written to, and one of the pictures that are read."""
    if out.resolve() in [path.resolve() for path in inputs]:
        raise InputError(f"--out {out} is a picture that is read: expected another file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"--out {out}: expected the name of a picture, such as {out.stem}.png")


def write_picture(pixels: np.ndarray, out: Path) -> None:
    """Write it."""
    try:
        Image.fromarray(pixels).save(out)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {out}: {error}") from error
