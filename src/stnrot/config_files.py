"""The folder of the option files: `configs/` of the repository, which the wheel holds as `stnrot/configs`."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from stnrot.errors import InputError

_PACKAGE = Path(__file__).parent
CONFIGS = next(
    (each for each in (_PACKAGE.parents[1] / "configs", _PACKAGE / "configs") if (each / "train.yaml").is_file()),
    _PACKAGE / "configs",
)


@lru_cache
def read_options(name: str) -> dict[str, Any]:
    """Return the content of an option file, such as `model/rot_stn`. The caller must not change it.

    It is read without Hydra: other files that it builds on are left out, and `${...}` stays text.
    """
    import yaml

    try:
        return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{error}: the install lacks an option file; install stnrot again") from error
