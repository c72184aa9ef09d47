"""How the commands end: what the user can put right is one line, what only we can is a stack."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stnrot.errors import InputError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of input into one line on stderr and exit status 1.

    Hydra is told to raise instead of printing its own; with HYDRA_FULL_ERROR=1 set by the user, every
    error keeps its stack.
    """
    full = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException, OSError) as error:
        if full:
            raise
        line = _one_line(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")


def _one_line(error: BaseException) -> str | None:
    """Say the innermost cause that is the user's; None if there is none."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    for link in reversed(chain):
        if isinstance(link, InputError):
            # from a worker process it comes wrapped in the text of that process's stack
            return _flat(str(link).rpartition("InputError: ")[2])
    if isinstance(error, OSError):
        if error.filename is None and error.errno is None:
            return None
        return f"{_flat(str(error))}; choose a writable place with hydra.run.dir=FOLDER, or free some space"
    texts = [_flat(str(link)) for link in chain if not isinstance(link, (TypeError, AttributeError))]
    text = texts[0] + (f" ({texts[-1]})" if len(texts) > 1 and texts[-1] not in texts[0] else "")
    return f"{text}; see the options with --help or in configs/"


def _flat(text: str) -> str:
    return " ".join(text.split())
