"""How the commands end: what the user can put right is one line, what only we can is a stack."""

import ast
import errno
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from stnrot.errors import InputError

# asked of the user's own process, and handed down to those that it starts
KEEP_STACKS = os.environ.setdefault("STNROT_STACKS", os.environ.get("HYDRA_FULL_ERROR", "0")) not in ("", "0")

# How Hydra reports an InputError of a constructor. Its text, unlike `__cause__`, survives the way between processes.
REFUSED = re.compile(
    r"Error in call to target '(?P<target>\S+)':\nInputError\((?P<text>.*)\)\nfull_key: (?P<path>\S+)", re.DOTALL
)
ARGUMENT = re.compile(r"\w+(?=[.=:])")  # at the start of a message: `width=1: ...`, `camera.width=1: ...`

# what Hydra and OmegaConf append for their own developers
NOISE = re.compile(r"\n\s*(?:full_key:|Config search path:|Set the environment variable)")


def quiet_libraries() -> None:
    """Silence notices that a user of this project can do nothing about."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for notice in ("treespec", "many workers", "multiple `ModelCheckpoint`", "supported by the model summary"):
        warnings.filterwarnings("ignore", f".*{notice}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of input into one line on stderr and exit status 1.

    Hydra is told to raise instead of printing its own; with HYDRA_FULL_ERROR=1 set by the user, every
    error keeps its stack.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        line = one_line(error)
        if line is None or KEEP_STACKS:
            raise
        sys.exit(f"error: {line}")


def one_line(error: BaseException) -> str | None:
    """Return in one line what the user can put right, or None if the error is a bug."""
    chain = [error]
    while (link := chain[-1].__cause__) is not None and link not in chain:
        chain.append(link)
    for link in chain:
        if message := input_error(link):
            return message
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        said = _flat(NOISE.split(str(error))[0])
        if unknown := re.match(r"Could not override '(.+?)'", said):
            said = f"unknown key {unknown[1]}"
        elif len(chain) > 1 and (key := re.search(r"full_key: (\S+)", str(error))):
            said = f"{key[1]}: {_flat(str(chain[-1]))}"
        if "'hydra/launcher/" in said:
            return f"{said} pip install -e '.[parallel]' brings joblib, '.[slurm]' submitit_local and submitit_slurm"
        if "gpu backend" in said:
            return "no GPU was found: choose trainer=auto or trainer=cpu"
        return f"{said}; --help lists the choices, --cfg job prints all keys"
    if isinstance(error, MisconfigurationException):
        return _flat(str(error))
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "a group of options is left out by ~, such as '~model/augment', and cannot be null"
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        return f"{_flat(str(error))}; if it is the run's own folder, choose another with hydra.run.dir=FOLDER"
    return None


def input_error(error: BaseException) -> str | None:
    """Return the message of an InputError in one line, or None for any other error.

    A constructor names its argument, `width=1: expected ...`. If Hydra called the constructor, the line begins with the
    argument's place in the configuration, `model.encoder.width=1: expected ...`.
    """
    if isinstance(error, InputError):
        # a worker process sends its InputError inside the text of its traceback
        return _flat(str(error).rpartition("InputError: ")[2])
    refused = REFUSED.match(str(error))
    if refused is None:
        return None
    message = _flat(ast.literal_eval(refused["text"]))
    argument = ARGUMENT.match(message)
    known = argument is not None and argument[0] in inspect.signature(get_object(refused["target"])).parameters
    return f"{refused['path']}.{message}" if known else message


def check_groups(cfg: DictConfig) -> None:
    """Refuse an option that was chosen with a dot where a slash was meant."""
    for section in ("model", "data"):
        for group in ("encoder", "classifier", "augment", "degrade", "source"):
            chosen = cfg.get(section, {}).get(group)
            if isinstance(chosen, str):
                raise InputError(f"{section}.{group}={chosen}: choose with a slash, {section}/{group}={chosen}")


def check_processes(processes: int, launcher: Any) -> None:
    """End a multirun whose jobs have several processes, unless they come with the job: each would run the sweep again.

    Args:
        launcher: its configuration. SLURM starts as many tasks as a job has processes; others start one, and that
            starts the rest by the command line of the multirun.
    """
    if processes > 1 and not launcher["_target_"].endswith(".SlurmLauncher"):
        sys.exit(  # of the whole sweep, not only of this job
            f"error: a multirun (-m) job asks for {processes} processes, and each would run the sweep again: set "
            "trainer.devices=1, run the jobs one by one without -m, or give each to SLURM with "
            "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=DEVICES"
        )


def _flat(text: str) -> str:
    return " ".join(text.split())
