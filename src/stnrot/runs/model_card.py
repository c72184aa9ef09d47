"""The model card of a published model: what a person knows about it, and what its run measured."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from torch import Tensor

FRONT = """---
license: {licence}
library_name: stnrot
tags: [rotation, spatial-transformer]
---

"""


def model_card(
    about: str, licence: str, checkpoint: Mapping[str, Any], metrics: Mapping[str, float], overrides: Sequence[str]
) -> str:
    """Return the text of a card, in the layout of the Hugging Face hub.

    Args:
        about: Markdown that begins with the title: what the model does, its data and its limits.
        licence: of the weights, as the hub names it, such as mit.
        checkpoint: as `read_checkpoint` returns it.
        metrics: what the run measured.
        overrides: options of `train.py` that the run was started with.
    """
    config = checkpoint["config"]
    weights: Mapping[str, Tensor] = checkpoint["state_dict"]
    numbers = sum(math.prod(value.shape) for value in weights.values())
    shape = " x ".join(str(config["data_spec"][name]) for name in ("channels", "height", "width"))
    rows = [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
    facts = [
        f"- Model: `{config['model']['_target_']}`, {numbers:,} numbers, trained on images of {shape}.",
        f"- Seed {config['seed']}, stnrot {version('stnrot')}.",
        f"- Command: `{' '.join(['python train.py', *overrides])}`",
    ]
    table = ["| metric of the run | value |", "|---|---|", *rows]
    parts = [about.strip(), "## Measured", "\n".join(table), "## Training", "\n".join(facts)]
    return FRONT.format(licence=licence) + "\n\n".join(parts) + "\n"
