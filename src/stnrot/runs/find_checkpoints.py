"""Find the checkpoints to evaluate, and check that several of them can form an ensemble."""

import glob
from pathlib import Path
from typing import Any

from stnrot.errors import InputError


def find_checkpoints(ckpt: Any) -> list[Path]:
    """Return one checkpoint for a path or `latest`, and for a pattern with * all that it matches.

    Raises:
        InputError: if it is not a text, a pattern matches no file, or there is no latest run.
    """
    if not isinstance(ckpt, str):  # such as a list
        raise InputError(f"ckpt={ckpt}: expected latest, the path of a checkpoint, or a pattern with * for an ensemble")
    if ckpt == "latest":
        return [_latest()]
    if Path(ckpt).exists() or glob.escape(ckpt) == ckpt:
        return [Path(ckpt)]
    found = sorted(Path(path) for path in glob.glob(ckpt))
    if not found:
        raise InputError(f"ckpt={ckpt} matches no file: expected checkpoints such as a sweep's */checkpoints/best.ckpt")
    return found


def _latest() -> Path:
    """Return the best checkpoint of the newest run."""
    found = sorted(Path("outputs/train").glob("**/checkpoints/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("ckpt=latest: no run below outputs/train has a best.ckpt; train one, or give a path")
    return found[-1]


def check_differ_in_seed(configs: list[dict[str, Any]], paths: list[Path]) -> None:
    """Raise InputError if the runs of an ensemble differ in anything but their seed, or two have the same seed."""
    seeds: list[int] = []
    first = _training_options(configs[0])
    for path, config in zip(paths, configs, strict=True):
        other = _training_options(config)
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                raise InputError(
                    f"the runs differ in {name}: {first.get(name)} in {paths[0]}, {other.get(name)} in {path}: "
                    "expected runs that differ in their seed alone"
                )
        seeds.append(config["seed"])
        if seeds[-1] in seeds[:-1]:
            raise InputError(f"{path} has the seed {seeds[-1]} of a run before it: expected runs of other seeds")


def _training_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run that influence its weights, except the seed."""
    sections = {f"{part}.{name}": value for part in ("model", "data", "task") for name, value in config[part].items()}
    trained = {f"trainer.{name}": config["trainer"].get(name) for name in ("max_epochs", "max_steps", "precision")}
    return {n: v for n, v in sections.items() if n not in ("data.seed", "data.root", "data.num_workers")} | trained
