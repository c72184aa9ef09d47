"""`stnrot study`: a report on a search, running or finished."""

from pathlib import Path
from typing import Annotated

import typer

from stnrot.errors import InputError, needs_extra

EXAMPLES = """
Examples:

- `stnrot study sqlite:///outputs/search/rot_stn/study.db`

- `stnrot study outputs/search/rot_stn/study.journal --out report`

- `stnrot study postgresql://user@host/studies --study rot_stn --out report`
"""


def study(
    storage: Annotated[
        str,
        typer.Argument(
            metavar="STORAGE",
            help="Storage of the search: sqlite:///outputs/search/rot_stn/study.db, the URL of another database, or "
            "the path of a journal file.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--study", help="Name of the study. Needed if the storage holds several."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for trials.csv, history.png and parallel.png. Default: the folder of the storage, if it is a "
            "file.",
        ),
    ] = None,
) -> int:
    """Report on a search, running or finished.

    Prints the trials, the importances of the parameters, and the command that repeats the best trial. Draws the
    history and the parallel coordinates.
    """
    with needs_extra("stnrot study"):
        from stnrot.search.report import report
        from stnrot.search.storage import file_of, without_password
        from stnrot.search.study import find_study

    file = file_of(storage)
    folder = out if file is None else out or file.parent
    if folder is None:
        raise InputError("a server has no folder for the figures: expected --out FOLDER")
    found = find_study(storage, name)
    if found is None:
        what = "no study" if name is None else f"no study {name}"
        raise InputError(f"{what} in {without_password(storage)}: expected the storage of a search")
    report(found, folder)
    return 0
