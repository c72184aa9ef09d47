"""What a command prints about errors: one line for an error of the user, a traceback for a bug."""

import ast
import errno
import inspect
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf.errors import OmegaConfBaseException

from stnrot.errors import FULL, InputError
from stnrot.printed import printable
from stnrot.runs.stop_signals import is_first_process

# HYDRA_FULL_ERROR as the user has set it. Processes that this one starts inherit the value as STNROT_STACKS.
KEEP_TRACEBACKS = os.environ.setdefault("STNROT_STACKS", os.environ.get("HYDRA_FULL_ERROR", "0")) not in ("", "0")

# Hydra's report of an InputError of a constructor. The text reaches other processes, `__cause__` does not.
REFUSED = re.compile(
    r"Error in call to target '(?P<target>\S+)':\nInputError\((?P<text>.*)\)\nfull_key: (?P<path>\S+)", re.DOTALL
)
ARGUMENT = re.compile(r"\w+(?=[.=:])")  # at the start of a message: `width=1: ...`, `camera.width=1: ...`

# torch's report of a process that fetches batches and was killed
KILLED_WORKER = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")

# what Hydra and OmegaConf append to a message for developers
NOISE = re.compile(r"\n\s*(?:full_key:|Config search path:|Set the environment variable)")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error of the user as one line on stderr, and exit with status 1.

    If the user has set HYDRA_FULL_ERROR=1, every error keeps its traceback. The context sets this variable itself, so
    that Hydra raises its errors instead of printing them.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"
    hook, threading.excepthook = threading.excepthook, _say_nothing_twice
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head`; Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        line = one_line(error)
        if line is None or KEEP_TRACEBACKS:
            raise
        sys.exit(f"error: {printable(line)}")
    finally:
        threading.excepthook = hook


def _say_nothing_twice(failed: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, but for that of TensorBoard: its error comes again from the next call."""
    if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard.")):
        threading.__excepthook__(failed)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Remove the folder of a single job that is refused before it has written anything.

    Hydra makes the folder, with its own files, before it calls the job. Empty folders above it go too, up to the
    folder in which the command was started. A multirun keeps the folders of its jobs, for its table.
    """
    try:
        yield
    except Exception as error:
        hydra = HydraConfig.get()
        folder, start = Path(hydra.runtime.output_dir), Path(hydra.runtime.cwd)
        own = {hydra.output_subdir, f"{hydra.job.name}.log"}
        left = {path.name for path in folder.glob("*")}  # none, if someone has deleted the folder
        ours = is_first_process() and start != folder and folder not in start.parents  # else `hydra.run.dir=.`
        if ours and hydra.mode != RunMode.MULTIRUN and one_line(error) is not None and left <= own:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in folder.parents:
                if start not in parent.parents or any(parent.iterdir()):
                    break
                parent.rmdir()
        raise


def remove_new(folder: Path, before: set[Path]) -> None:
    """Remove what a folder holds beside the entries that it had before."""
    for path in set(folder.iterdir()) - before:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def one_line(error: BaseException) -> str | None:
    """Return the message of an error that the user can correct, in one line, or None if the error is a bug."""
    chain = [error]
    while (link := chain[-1].__cause__) is not None and link not in chain:
        chain.append(link)
    for link in chain:
        if message := input_error(link):
            return message
        if isinstance(link, RuntimeError) and KILLED_WORKER.match(str(link)):
            return (
                f"a process that fetches batches was killed ({_flat(str(link)).rstrip('.')}), for example because the "
                "memory is full; lower data.num_workers, then start again or resume the run"
            )
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        message = _flat(NOISE.split(str(error))[0])
        if unknown := re.match(r"Could not override '(.+?)'", message):
            message = f"unknown key {unknown[1]}"
        elif len(chain) > 1 and (key := re.search(r"full_key: (\S+)", str(error))):
            message = f"{key[1]}: {_flat(str(chain[-1]))}"
        if "'hydra/launcher/" in message:
            return f"{message} pip install -e '.[parallel]' brings joblib, '.[slurm]' submitit_local and submitit_slurm"
        if "gpu backend" in message:
            return "no GPU was found: choose trainer=auto or trainer=cpu"
        return f"{message}; --help lists the choices, --cfg job prints all keys"
    if _is_refusal_of_lightning(error):
        return _flat(str(error))
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "a group cannot be null: leave it out with ~, such as '~model/augment'"
    if isinstance(error, OSError) and (error.filename is not None or error.errno in (*FULL, errno.EIO)):
        remedy = "make room, or choose" if error.errno in FULL else "if it is the run's own folder, choose"
        return f"{_flat(str(error))}; {remedy} another folder with hydra.run.dir=FOLDER"
    return None


def _is_refusal_of_lightning(error: BaseException) -> bool:
    """Return whether Lightning itself has refused an option that does not fit the job.

    Lightning raises a ValueError or its MisconfigurationException, which is compared by name: an import of Lightning
    takes seconds, and one line is due also for a command that fails before.
    """
    if any(kind.__name__ == "MisconfigurationException" for kind in type(error).__mro__):
        return True
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    raised_in = "" if at is None else at.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, ValueError) and raised_in.startswith("lightning.")


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


def _flat(text: str) -> str:
    return " ".join(text.split())
