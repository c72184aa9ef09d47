"""The folder of the option files: `configs/` of the repository, which the wheel holds as `stnrot/configs`."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
CONFIGS = next(
    (each for each in (_PACKAGE.parents[1] / "configs", _PACKAGE / "configs") if (each / "train.yaml").is_file()),
    _PACKAGE / "configs",
)
