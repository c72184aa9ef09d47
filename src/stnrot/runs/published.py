"""Read a model from a folder that can be given away: weights as safetensors, everything else as JSON, a model card.

It is the layout of the Hugging Face hub. Unlike a checkpoint it holds nothing of the optimizer and no paths. No file of
it can run code: `rebuild` checks the names of the classes as it does for a checkpoint.
"""

import json
from pathlib import Path
from typing import Any

from stnrot.errors import InputError
from stnrot.regular_file import check_regular

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
LONGEST = 2**24  # bytes of the configuration; the rest of a longer file is not read
SUFFIX, KEY = ".safetensors", "stnrot"  # of a single file, and of the configuration in its metadata


def read_published(source: Path) -> dict[str, Any]:
    """Return the configuration and the weights of a published model, as `read_checkpoint` does for a checkpoint.

    Args:
        source: the folder, or a single file of `stnrot export`.

    Raises:
        InputError: if a file is missing or cannot be read.
    """
    from safetensors import safe_open
    from safetensors.torch import load  # here, because it imports torch

    single = source.suffix == SUFFIX and source.exists() and not source.is_dir()
    for name in (CONFIG, WEIGHTS):
        check_regular(source if single else source / name)
    try:
        if single:
            with safe_open(source, "pt") as file:
                described = json.loads((file.metadata() or {}).get(KEY, ""))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        else:
            with (source / CONFIG).open("rb") as text:
                described = json.loads(text.read(LONGEST))
            weights = load((source / WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{source} has no {Path(error.filename).name}: expected the folder of a published model, with {CONFIG} and "
            f"{WEIGHTS}, or a checkpoint"
        ) from error
    except Exception as error:  # of the file system, JSON or safetensors
        raise InputError(f"{source} is not a readable model ({error}): expected what stnrot publish writes") from error
    described = described if isinstance(described, dict) else {}
    return {"config": described.get("run"), "state_dict": weights, "stnrot": described.get("stnrot")}
