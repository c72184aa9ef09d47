"""`stnrot pose`: report on a search."""

from pathlib import Path
from typing import Annotated

import typer

from stnrot.errors import InputError

POSE_EXAMPLES = """
"""

def pose(
    storage: Annotated[
        str,
        typer.Argument(
            help="Storage of the search: sqlite:///outputs/search/rot_stn/pose.db, the URL of another database, or the "
            "path of a journal file."
        ),
    ],
) -> int:
    """Report on a search.

    Prints."""
    raise BrokenPipeError
