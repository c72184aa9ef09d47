"""`stnrot publish`: a folder with a model that can be given away."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stnrot.errors import InputError, needs_extra
from stnrot.regular_file import check_regular

EXAMPLES = """
Examples:

- `stnrot publish outputs/train/2026-11-29/12-00-00 my-model --about about.md --licence mit`

- `hf upload me/my-model my-model` puts the folder on the Hugging Face hub
"""
PRIVATE = ("data.root", "hydra.run.dir", "ckpt_path", "start_from")  # options that hold paths of this machine


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run of train.py.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the model.")],
    about: Annotated[
        Path,
        typer.Option(
            help="Markdown file that begins the model card: a title, what the model does, its data and its limits."
        ),
    ],
    licence: Annotated[str, typer.Option(help="Licence of the weights, as the Hugging Face hub names it: mit.")],
    half: Annotated[bool, typer.Option("--half", help="Store the weights in 16 bits: half the size.")] = False,
) -> int:
    """Write the best checkpoint of a run to a folder that can be given away.

    The folder holds the weights (model.safetensors), the configuration without paths of this machine (config.json), and
    a model card (README.md) with the metrics of the run. Every command that takes a checkpoint takes the folder too.
    """
    with needs_extra("stnrot publish"):
        from stnrot.runs.checkpoints import read_checkpoint
        from stnrot.runs.publish import model_card, write_published

    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    card = model_card(_text(about), licence, checkpoint, _metrics(run), _overrides(run))
    write_published(checkpoint, folder, card, licence, half)
    print(f"written: {folder}")
    return 0


def _text(path: Path) -> str:
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--about {path}: cannot be read: {error}; expected a Markdown file") from error


def _metrics(run: Path) -> dict[str, float]:
    """Return the metrics that `train.py` wrote at the end."""
    try:
        found = json.loads((run / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{run} has no readable metrics.json: expected the folder of a run that has ended") from error
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _overrides(run: Path) -> list[str]:
    """Return the options of the run, without those that hold paths."""
    from omegaconf import OmegaConf

    file = run / ".hydra" / "overrides.yaml"
    given = [str(each) for each in OmegaConf.load(file)] if file.is_file() else []
    return [each for each in given if not each.lstrip("+").startswith(tuple(f"{name}=" for name in PRIVATE))]
