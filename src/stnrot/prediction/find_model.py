"""From what a person names to the file or folder of a model."""

import os
from pathlib import Path

from stnrot.errors import InputError
from stnrot.models.shipped import SHIPPED, shipped_folder
from stnrot.runs.published import CONFIG

BEST = Path("checkpoints") / "best.ckpt"  # in the folder of a run


def find_model(source: str | Path) -> Path:
    """Return the checkpoint or the published folder.

    Args:
        source: the folder of a run, a published folder, a checkpoint, or the name of a model that is shipped.

    Raises:
        InputError: if there is nothing of this kind.
    """
    path = Path(source)
    if os.path.isfile(path / BEST):
        return path / BEST
    if os.path.isfile(path) or os.path.isfile(path / CONFIG):
        return path
    if str(source) in SHIPPED:
        return shipped_folder(str(source))
    raise InputError(
        f"model={source}: expected the folder of a run of train.py, one that stnrot publish wrote, a checkpoint, or "
        f"{' or '.join(SHIPPED)}"
    )
