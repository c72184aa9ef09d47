"""The option `--share` of the commands that write a table."""

from typing import Annotated, TypeAlias

import typer

ShareOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--share",
        rich_help_panel="Several machines",
        metavar="I/N",
        help="Work on share I of N alone, such as 3/8: every eighth of the list, from the third. Each machine gets "
        "another I and another --out; stnrot merge puts the tables together.",
    ),
]
