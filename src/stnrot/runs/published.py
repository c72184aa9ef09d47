"""A model in a folder that can be given away: weights as safetensors, everything else as JSON, and a model card.

It is the layout of the Hugging Face hub. Unlike a checkpoint it holds nothing of the optimizer and no paths. No file of
it can run code: `rebuild` checks the names of the classes as it does for a checkpoint.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from stnrot.errors import InputError
from stnrot.regular_file import check_regular
from stnrot.runs.allowed_targets import without_weights
from stnrot.runs.atomic_write import atomic_write

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
KEPT = ("model", "task", "data", "data_spec", "seed", "trainer")  # of the configuration of the run
TRAINER = ("_target_", "precision", "max_epochs")


def write_published(
    checkpoint: dict[str, Any], folder: Path, card: str, facts: dict[str, Any], half: bool = False
) -> None:
    """Write a model to a folder.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        folder: to write to; it is made.
        card: the text of the model card.
        facts: plain values to store beside the configuration of the run, such as the licence.
        half: store the weights in 16 bits.

    Raises:
        InputError: if the folder holds a model already.
    """
    if any((folder / name).exists() for name in (WEIGHTS, CONFIG, CARD)):
        raise InputError(
            f"{folder} holds files of a model: expected a new or empty folder; choose another, or empty it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    config = {name: checkpoint["config"][name] for name in KEPT}
    config["model"], config["data"] = without_weights(config["model"]), config["data"] | {"root": None}
    config["trainer"] = {name: config["trainer"].get(name) for name in TRAINER}
    weights = {
        name: value.to(torch.float16 if half and value.is_floating_point() else value.dtype).contiguous().clone()
        for name, value in checkpoint["state_dict"].items()
    }
    described = {"stnrot": version("stnrot"), **facts, "run": config}
    contents = {WEIGHTS: save(weights), CARD: card.encode(), CONFIG: f"{json.dumps(described, indent=2)}\n".encode()}
    for name, content in contents.items():
        with atomic_write(folder / name) as new:
            new.write_bytes(content)


def read_published(folder: Path) -> dict[str, Any]:
    """Return the configuration and the weights of a published model, as `read_checkpoint` does for a checkpoint.

    Raises:
        InputError: if a file is missing or cannot be read.
    """
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
