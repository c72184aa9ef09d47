"""Write a model to a folder that can be given away, with its model card; see `published`."""

import json
import math
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from stnrot.errors import InputError
from stnrot.runs.allowed_targets import without_weights
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.published import CARD, CONFIG, KEY, WEIGHTS

KEPT = ("model", "task", "data", "data_spec", "seed", "trainer")  # of the configuration of the run
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
TRAINER = ("_target_", "precision", "max_epochs")
FRONT = """---
license: {licence}
library_name: stnrot
tags: [rotation, spatial-transformer]
---

"""


def write_published(checkpoint: dict[str, Any], folder: Path, card: str, licence: str, half: bool = False) -> None:
    """Write a model to a folder.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        folder: to write to; it is made.
        card: the text of the model card.
        licence: of the weights.
        half: store the weights in 16 bits.

    Raises:
        InputError: if it cannot be made or written, or holds anything already. It is then left empty.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be made a folder: {error}; choose another") from error
    if occupied:
        raise InputError(f"{folder} is not empty: expected a new or empty folder; choose another")
    described = _described(checkpoint) | {"licence": licence}
    weights = _weights(checkpoint, half)
    contents = {WEIGHTS: save(weights), CARD: card.encode(), CONFIG: f"{json.dumps(described, indent=2)}\n".encode()}
    try:
        for name, content in contents.items():
            with atomic_write(folder / name) as new:
                new.write_bytes(content)
    except OSError as error:  # such as a full disk: a part of a model is of no use
        for name in contents:
            (folder / name).unlink(missing_ok=True)
        raise InputError(f"{folder} cannot be written: {error}; make room there, or choose another") from error


def write_single(checkpoint: dict[str, Any], file: Path) -> None:
    """Write the weights of a model to one file, with its configuration in the metadata; `read_published` reads it.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        file: to write.
    """
    file.write_bytes(save(_weights(checkpoint, half=False), {KEY: json.dumps(_described(checkpoint))}))


def _described(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what rebuilds the model, without paths of this machine."""
    config = {name: checkpoint["config"][name] for name in KEPT}
    config["model"], config["data"] = without_weights(config["model"]), config["data"] | {"root": None}
    config["trainer"] = {name: config["trainer"].get(name) for name in TRAINER}
    return {"stnrot": version("stnrot"), "run": config}


def _weights(checkpoint: dict[str, Any], half: bool) -> dict[str, Tensor]:
    return {
        name: value.to(torch.float16 if half and value.is_floating_point() else value.dtype).contiguous().clone()
        for name, value in checkpoint["state_dict"].items()
    }


def model_card(
    about: str, licence: str, checkpoint: Mapping[str, Any], metrics: Mapping[str, float], command: str | None
) -> str:
    """Return the text of a card, in the layout of the Hugging Face hub.

    Args:
        about: Markdown that begins with the title: what the model does, its data and its limits.
        licence: of the weights, as the hub names it, such as mit.
        checkpoint: as `read_checkpoint` returns it.
        metrics: what the run measured.
        command: that trained it; None: not known.

    Raises:
        InputError: if the licence is no name of the hub.
    """
    config = checkpoint["config"]
    weights: Mapping[str, Tensor] = checkpoint["state_dict"]
    numbers = sum(math.prod(value.shape) for value in weights.values())
    data = ", ".join(f"{name} {value}" for name, value in config["data_spec"].items() if name != "class_names")
    rows = [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
    facts = [
        f"- Model: `{config['model']['_target_']}`, {numbers:,} numbers.",
        f"- Data: `{config['data']['_target_']}`, {data}.",
        f"- Seed {config['seed']}, stnrot {version('stnrot')}.",
        *([] if command is None else [f"- Command: `{command}`"]),
    ]
    table = ["## Measured", "\n".join(["| metric of the run | value |", "|---|---|", *rows])] if rows else []
    parts = [about.strip(), *table, "## Training", "\n".join(facts)]
    if not LICENCE.fullmatch(licence):
        raise InputError(f"licence={licence}: expected a name of the Hugging Face hub, such as mit or cc-by-4.0")
    return FRONT.format(licence=licence) + "\n\n".join(parts) + "\n"
