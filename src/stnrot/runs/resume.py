"""Resume a run in its own folder: `resume=FOLDER` or `resume=latest`, with few other options beside it."""

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from stnrot.errors import InputError
from stnrot.regular_file import check_regular, real
from stnrot.runs.moved_targets import with_new_names
from stnrot.runs.overrides import as_override

# what may change when a run resumes: its length, and what has no influence on the result
MAY_CHANGE = (
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time"),
    *("checkpoint.every_n_steps", "checkpoint.every_minutes"),
    *("data.num_workers", "data.root", "data.source.memory_gb", "data.source.cache_gb", "callbacks.progress"),
)
LENGTH = MAY_CHANGE[:3]
OPTION = "resume="


def resumed_config(arguments: list[str]) -> DictConfig | None:
    """Return the configuration of the run that the command line resumes, or None if it resumes none.

    The configuration is that of the run's config.yaml, whatever the files of `configs/` say today. If the folder was
    moved, its own paths are corrected.

    Args:
        arguments: the command line, without the script.

    Raises:
        InputError: if there is no such run, or an option beside `resume` would change its result.
    """
    given = [each for each in arguments if each.startswith(OPTION)]
    if not given or given[-1].lower() == f"{OPTION}null":
        return None
    others = [each for each in arguments if each not in given]
    if flags := [each for each in others if each.startswith("-")]:
        raise InputError(f"{flags[0]}: expected no flag beside resume, which runs one job with its own configuration")
    text = given[-1].removeprefix(OPTION)
    folder = find_run(text if Path(text).exists() else _parsed(given[-1])[1])  # in Hydra's quotes or without
    config = OmegaConf.create(_read_config(folder))
    for each in others:
        _override(config, each, folder)
    return config


def find_run(value: Any) -> Path:
    """Return the absolute path of a run's folder, or that of the newest run below outputs/train for `latest`."""
    if value == "latest":
        found = list(Path("outputs/train").glob("**/config.yaml"))
        runs = [path for path in found if path.parent.name != ".hydra"]
        if not runs:
            raise InputError("resume=latest: no run below outputs/train; give the folder of a run")
        return max(runs, key=lambda path: path.stat().st_mtime).parent.resolve()
    folder = real(str(value))
    if folder.suffix == ".ckpt":
        raise InputError(f"resume={value}: expected the folder of a run, {folder.parent.parent}, or latest")
    if not (folder / "config.yaml").is_file():
        raise InputError(f"resume={value}: expected latest, or the folder of a run, which has a config.yaml")
    return folder


def to_resume(folder: Path) -> str:
    """Return the command that resumes the run of a folder, for a shell."""
    script = Path(sys.argv[0])
    # `stnrot train` puts the file of its job into sys.argv
    ours = script.name != "train.py" or script.resolve().parent.name == "jobs"
    command = ["stnrot", "train"] if ours else ["python", sys.argv[0]]
    return shlex.join([*command, as_override("resume", folder.resolve())])


def log_as_hydra(folder: Path) -> None:
    """Print the messages of the job, and append them to the run's train.log, in Hydra's format."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), logging.FileHandler(folder / "train.log")]
    line = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, handlers=handlers, force=True)


def choices_of(folder: Path) -> dict[str, str]:
    """Return the choice of each group that Hydra has noted in the folder of a run."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "hydra.yaml"), resolve=False)
        choices = found["hydra"]["runtime"]["choices"]
        return {str(group): str(name) for group, name in choices.items() if name and not group.startswith("hydra/")}
    except Exception:  # of YAML, OmegaConf, the file system or another form
        return {}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    check_regular(path)
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # of YAML, OmegaConf or the file system
        raise InputError(f"{path} cannot be read: {type(error).__name__}; give the folder of a run") from error
    if not isinstance(config, dict) or not {"model", "task", "data", "trainer", "output_dir"} <= config.keys():
        raise InputError(f"{path} is not the configuration of a training: give the folder of a run of train.py")
    if "ckpt" in config:
        raise InputError(
            f"{folder} is an evaluation, which has nothing to resume: give the folder of the run of train.py, or start "
            "the evaluation again"
        )
    if config.get("trial") is not None:
        raise InputError(f"{folder} is a trial of a search: run the command of the search again, which resumes it")
    return with_new_names(_moved_paths(config, str(config["output_dir"]), str(folder)))


def _moved_paths(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {key: _moved_paths(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved_paths(value, old, new) for value in node]
    inside = isinstance(node, str) and (node == old or node.startswith(f"{old}/"))
    return new + node[len(old) :] if inside else node


def _parsed(argument: str) -> tuple[str, Any]:
    try:
        override = OverridesParser.create().parse_override(argument)
        if override.is_sweep_override() or override.is_delete():
            raise InputError(f"{argument}: expected one value beside resume")
        return override.key_or_group, override.value()
    except HydraException as error:
        raise InputError(f"{argument}: expected key=value beside resume") from error


def _override(config: DictConfig, argument: str, folder: Path) -> None:
    key, value = _parsed(argument)
    if not any(key == each or key.startswith(f"{each}.") for each in MAY_CHANGE):
        old = OmegaConf.select(config, key)
        raise InputError(
            f"{argument}: the run {folder} has {key}={old}, and another value would change its result; expected one of "
            f"{', '.join(MAY_CHANGE)} beside resume, or a new run without resume"
        )
    OmegaConf.update(config, key, value, force_add=True)
    if key.startswith("checkpoint.") and OmegaConf.select(config, "callbacks.last") is not None:
        OmegaConf.update(config, f"callbacks.last.{key.partition('.')[2]}", value)  # config.yaml has no interpolations
