"""Where files are kept that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `stnrot` in the user's cache folder, XDG_CACHE_HOME or `~/.cache`.

    Raises:
        OSError: if the user has none.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and the user is not known
        raise OSError(str(error)) from error
    return base / "stnrot"
