"""The file that a command writes: its path is checked before the work begins."""

from pathlib import Path

from stnrot.errors import InputError
from stnrot.regular_file import check_regular


def check_new_file(out: Path, overwrite: bool) -> None:
    """Raise InputError if no file can be written to `out`, or if it exists and may not be replaced."""
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    check_regular(out)
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} exists: expected a new file; add --overwrite to replace it")
