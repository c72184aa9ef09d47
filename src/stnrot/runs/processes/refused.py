"""The first process of a job is refused, for example by a bad option: the others do not wait for it in vain."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stnrot.errors import InputError
from stnrot.runs.processes import meeting
from stnrot.runs.processes.launched import Launched, launched


@contextmanager
def tells_others() -> Iterator[None]:
    """If the first process exits with an error before it has met the others, tell them: they would wait for it."""
    try:
        yield
    except SystemExit as refused:
        first = None if meeting.began else _first_of_several(sys.argv[1:])
        if first is None or not isinstance(refused.code, str):
            raise
        print(refused.code, file=sys.stderr, flush=True)
        with suppress(Exception):  # then they wait, as for a machine that was not started
            meeting.refuse(first)
        sys.exit(1)


def _first_of_several(arguments: list[str]) -> Launched | None:
    """Return how this process was started if it is the first of several, else None.

    Args:
        arguments: the command line, because an option in it may be the reason that there is no configuration.
    """
    if {"-m", "--multirun"} & {*arguments}:
        return None
    pairs = (each.lstrip("+").removeprefix("trainer.").partition("=") for each in arguments if "trainer." in each)
    try:
        found = launched({key: value for key, _, value in pairs})
    except InputError:
        return None
    return found if found is not None and found.rank == 0 and found.count > 1 else None
