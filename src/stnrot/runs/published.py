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


def read_published(folder: Path) -> dict[str, Any]:
    """Return the configuration and the weights of a published model, as `read_checkpoint` does for a checkpoint.

    Raises:
        InputError: if a file is missing or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load  # here, because it imports torch

    for name in (CONFIG, WEIGHTS):
        check_regular(folder / name)
    try:
        described = json.loads((folder / CONFIG).read_bytes())
        weights = load((folder / WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {Path(error.filename).name}: expected the folder of a published model, with {CONFIG} and "
            f"{WEIGHTS}, or a checkpoint"
        ) from error
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise InputError(f"{folder} is not a readable model ({error}): expected what stnrot publish writes") from error
    return {"config": described.get("run") if isinstance(described, dict) else None, "state_dict": weights}
