"""`stnrot study`: report on a search."""

from pathlib import Path
from typing import Annotated

import typer

from stnrot.errors import InputError

STUDY_EXAMPLES = """
"""

def study(
    storage: Annotated[
        str,
        typer.Argument(
            help="Storage of the search: sqlite:///outputs/search/rot_stn/study.db, the URL of another database, or the "
            "path of a journal file."
        ),
    ],
) -> int:
    """Report on a search.

    Prints."""
    raise BrokenPipeError
