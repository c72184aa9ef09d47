"""From what a person names to the file or folder of a model."""

from pathlib import Path

from stnrot.errors import InputError
from stnrot.models.shipped import SHIPPED, shipped_folder
from stnrot.runs.published import CONFIG

BEST = Path("checkpoints") / "best.ckpt"


def find_model(source: str | Path) -> Path:
    """Return the checkpoint or the published folder.

    Args:
        source: the name of a model that is shipped, the folder of a run, a published folder, or a checkpoint.

    Raises:
        InputError: if there is nothing of this kind.
    """
    path = Path(source)
    if str(source) in SHIPPED and not path.exists():
        return shipped_folder(str(source))
    if (path / BEST).is_file():
        return path / BEST
    if path.is_file() or (path / CONFIG).is_file():
        return path
    raise InputError(
        f"model={source}: expected the folder of a run of train.py, one that stnrot publish wrote, a checkpoint, or "
        f"{' or '.join(SHIPPED)}"
    )
