"""`stnrot publish`: a folder with a model that can be given away."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stnrot.commands.trust import Trust
from stnrot.errors import InputError, needs_extra, reason_of
from stnrot.printed import printable
from stnrot.regular_file import check_regular

EXAMPLES = """
Examples:

- `stnrot publish outputs/train/2026-11-29/12-00-00 my-model --about about.md --licence mit`

- `hf upload me/my-model my-model` puts the folder on the Hugging Face hub
"""


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
    trust: Trust = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in 16 bits: half the size.")] = False,
) -> int:
    """Write the best checkpoint of a run to a folder that can be given away.

    The folder holds the weights (model.safetensors), the configuration without paths of this machine (config.json), and
    a model card (README.md) with the metrics of the run. Every command that takes a checkpoint takes the folder too.
    """
    with needs_extra("stnrot publish"):
        from stnrot.prediction.find_model import BEST
        from stnrot.runs.checkpoints import read_checkpoint, rebuild
        from stnrot.runs.publish import model_card, write_published

    path = run / BEST
    checkpoint = read_checkpoint(path)
    rebuild(checkpoint, path, trust or (), "add --trust {0}")  # raises an error if others could not load it
    command = " ".join(["python train.py", *_overrides(run)])
    card = model_card(_text(about), licence, checkpoint, _metrics(run), command)
    write_published(checkpoint, folder, card, licence, half)
    print(printable(f"written: {folder}"))
    return 0


def _text(path: Path) -> str:
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--about {path}: cannot be read: {error}; expected a Markdown file") from error
    if not text.lstrip().startswith("# "):
        raise InputError(f"--about {path}: expected a Markdown file that begins with a title: # NAME")
    return text


def _metrics(run: Path) -> dict[str, float]:
    """Return the metrics that `train.py` wrote at the end."""
    check_regular(run / "metrics.json")
    try:
        found = dict(json.loads((run / "metrics.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run} has no readable metrics.json: expected the folder of a run that has ended") from error
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _overrides(run: Path) -> list[str]:
    """Return the options that the run was started with, without those that may hold a path of this machine."""
    from omegaconf import ListConfig, OmegaConf

    file = run / ".hydra" / "overrides.yaml"
    try:
        given = OmegaConf.load(file) if file.is_file() else OmegaConf.create([])
    except Exception as error:  # PyYAML's errors have no common base but Exception
        raise InputError(f"{file} cannot be read: {reason_of(error)}; expected the folder of a run") from error
    options = [str(each) for each in given] if isinstance(given, ListConfig) else []
    return [each for each in options if not each.startswith("data.root=") and "/" not in each.partition("=")[2]]
