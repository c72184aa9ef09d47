"""Only regular files are read: a named pipe waits for a writer, and a device such as /dev/zero has no end.

A path may be a link, also one that leads back to itself.
"""

import os
import stat
from pathlib import Path

from stnrot.errors import InputError

OTHER_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def check_regular(path: str | Path) -> None:
    """Raise InputError if a path, or the file that it links to, exists and is not a regular file.

    Call it before the file is opened: opening a named pipe can wait for ever. A path that cannot be examined raises
    nothing here. Its error comes when it is opened.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return
    for is_kind, kind in OTHER_KINDS:
        if is_kind(mode):
            raise InputError(
                f"{path}: expected a regular file, got {kind}; give the path of a file that is saved on disk"
            )


def real(path: str | Path) -> Path:
    """Return the absolute path behind all links.

    A link that leads back to itself stays: its error comes when it is opened. Before Python 3.13 `Path.resolve` raises
    an error for it that is no OSError.
    """
    return Path(os.path.realpath(path))
