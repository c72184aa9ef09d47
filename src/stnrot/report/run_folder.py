"""Read the folder of a run: what `train.py` or `evaluate.py` has written there, finished or not."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from stnrot.errors import InputError, reason_of
from stnrot.regular_file import check_regular

TEST = Path("pictures", "test")
PARTS = ("data", "data_spec", "model", "monitor", "task", "trainer")  # of the configuration, that the page reads


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        folder: as the user has given it.
        config: whole configuration, as plain data; empty for an evaluation by stnrot 0.3.0 or older.
        overrides: options that the run was started with; None if they are not recorded.
        started_in: folder in which the command was given; relative paths of the configuration start there.
        environment: of environment.json; empty for a run by stnrot 0.3.0 or older.
        metrics: of metrics.json; empty if the test is not finished.
        finished: whether there is a metrics.json, the last file of a run.
    """

    folder: Path
    config: Mapping[str, Any]
    overrides: tuple[str, ...] | None
    started_in: Path
    environment: Mapping[str, Any]
    metrics: Mapping[str, float]
    finished: bool

    @property
    def evaluation(self) -> bool:
        """Whether `evaluate.py` has written the folder."""
        return "ckpt" in self.config or not self.config

    @property
    def command(self) -> str | None:
        """The command that started the run."""
        name = "evaluate" if self.evaluation else "train"
        return None if self.overrides is None else shlex.join(["stnrot", name, *self.overrides])

    @property
    def task(self) -> str:
        """Name of the class of the task, such as Classify; empty if unknown."""
        return self.target("task")

    def target(self, part: str) -> str:
        """Return the name of the class of a part of the configuration; empty if unknown."""
        return str(self.part(part).get("_target_", "")).rpartition(".")[2]

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part of the configuration; empty if it has none."""
        return self.config.get(name) or {}

    @property
    def figures(self) -> tuple[str, dict[str, Path]]:
        """Name of the newest folder with figures, `test` or an epoch, and its PNG files by name."""
        folders = [path for path in (self.folder / TEST).parent.glob("*") if path.is_dir()]
        if not folders:
            return "", {}
        newest = max(folders, key=lambda path: (path.name == TEST.name, len(path.name), path.name))
        return newest.name, {path.stem: path for path in sorted(newest.glob("*.png")) if path.is_file()}

    def to_evaluate(self) -> str:
        """Return the command that tests the run again; its folder then has metrics, predictions and figures."""
        ckpt = self.config.get("ckpt", [self.folder / "checkpoints" / "best.ckpt"])
        path = str(ckpt[0]) if len(ckpt) == 1 else f"[{','.join(map(str, ckpt))}]"
        return shlex.join(["stnrot", "evaluate", f"ckpt={path}"])


def read_run(folder: Path) -> Run:
    """Read the folder of a run.

    Raises:
        InputError: if it is not one, or a file of it cannot be read.
    """
    names = ("config.yaml", "metrics.json", "environment.json")
    if not any((folder / name).is_file() for name in names[:2]):
        raise InputError(f"{folder} {_what_is_wrong(folder)}")
    for name in names:
        check_regular(folder / name)
    metrics = _json(folder / "metrics.json")
    return Run(
        folder=folder,
        config=_config(folder / "config.yaml"),
        overrides=_overrides(folder),
        started_in=_started_in(folder),
        environment=_json(folder / "environment.json") or {},
        metrics={name: float(value) for name, value in (metrics or {}).items() if isinstance(value, float | int)},
        finished=metrics is not None,
    )


def _what_is_wrong(folder: Path) -> str:
    expected = "expected the folder of a run of train.py or evaluate.py, with config.yaml or metrics.json"
    if not folder.exists():
        return f"does not exist: {expected}"
    if not folder.is_dir():
        return f"is a file: {expected}"
    inside = len({path.parent for name in ("config.yaml", "metrics.json") for path in folder.glob(f"*/{name}")})
    if inside:
        return f"is not a run, but holds {inside}: give {folder}/*/"
    return f"is not a run: {expected}"


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"), parse_int=float))  # an int can be too large for it
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {reason_of(error)}; test the run again with evaluate.py") from error


def _config(path: Path) -> dict[str, Any]:
    """Return the configuration. What a person has changed by hand must still have the form that a run writes."""
    found: dict[str, Any] = _yaml(path, {})
    wrong = [name for name in PARTS if not isinstance(found.get(name), dict | None)]
    if not isinstance((found.get("data_spec") or {}).get("class_names"), list | None) and not wrong:
        wrong = ["data_spec.class_names"]
    if "ckpt" in found and not (isinstance(found["ckpt"], list) and found["ckpt"]):
        wrong.append("ckpt")
    if wrong:
        raise InputError(f"{path}: {wrong[0]} is not what a run has written: take the file of the run again")
    return found


def _yaml(path: Path, missing: Any) -> Any:
    if not path.is_file():
        return missing
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
        if "&" in text and any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has references, which can stand for any number of values")
        found = OmegaConf.load(path)
        plain = OmegaConf.to_container(found, resolve=False)
    except Exception as error:  # PyYAML's errors have no common base but Exception
        raise InputError(f"{path} cannot be read: {reason_of(error)}; expected what a run has written") from error
    if isinstance(found, DictConfig) != isinstance(missing, dict):
        raise InputError(f"{path} is not a configuration: expected what a run has written")
    return plain


def _overrides(folder: Path) -> tuple[str, ...] | None:
    path = folder / ".hydra" / "overrides.yaml"
    found: Sequence[Any] = _yaml(path, [])
    return tuple(map(str, found)) if path.is_file() else None


def _started_in(folder: Path) -> Path:
    hydra = _yaml(folder / ".hydra" / "hydra.yaml", {}).get("hydra")
    runtime = hydra.get("runtime") if isinstance(hydra, dict) else None
    cwd = runtime.get("cwd") if isinstance(runtime, dict) else None
    return Path(cwd) if isinstance(cwd, str) else Path()
