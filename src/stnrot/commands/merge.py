"""`stnrot merge`: one table of those that several machines wrote."""

from pathlib import Path
from typing import Annotated

import typer

from stnrot.commands.new_file import check_new_file
from stnrot.printed import printable

EXAMPLES = """
Examples:

- `stnrot merge part1.csv part2.csv part3.csv --out results.csv`

- `stnrot merge parts/*.csv --out results.csv --overwrite`
"""


def merge(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...",
            help="Tables of stnrot predict --out, or of stnrot align --manifest, each written with another --share, "
            "in the order of the shares.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> int:
    """Put the tables together that several machines wrote with --share.

    The result is the table of one machine. An image or a pair that is in several tables gets the first row without an
    error. All tables need the same model. The exit code is 1 if a row has an error.
    """
    check_new_file(out, overwrite)
    from stnrot.alignment.tables.result_table import COLUMNS as PAIRS
    from stnrot.alignment.tables.result_table import MOVED_COLUMNS as MOVED_PAIRS
    from stnrot.prediction.predict_files import COLUMNS as IMAGES
    from stnrot.runs.tables.merged_table import merge_tables

    found = merge_tables(tables, out, (IMAGES, PAIRS, MOVED_PAIRS))
    failed = sum(bool(row["error"]) for row in found)
    print(printable(f"{len(found)} rows in {out}") + (f", {failed} with an error: see that column" if failed else ""))
    return int(failed > 0)
