"""`stnrot study`: what a search has found so far."""

import argparse
from pathlib import Path
from typing import Any

from stnrot.errors import InputError


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "study",
        help="tell what a search has found so far",
        description="Show the trials of a search, running or finished, the importances of its parameters, and the "
        "command that repeats the best trial; draw its history and parallel coordinates.",
    )
    command.add_argument(
        "storage",
        metavar="STORAGE",
        help="where the search lies: sqlite:///outputs/search/rot_stn/study.db or the URL of another database, or the "
        "path of a journal file",
    )
    command.add_argument("--study", metavar="NAME", help="which one, if several lie there")
    command.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write trials.csv, history.png and parallel.png; that of the storage if it is a file",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Report on the study."""
    from stnrot.search.report import report  # with Optuna, which the other commands do without
    from stnrot.search.storage import file_of, without_password
    from stnrot.search.study import find_study

    file = file_of(args.storage)
    out = args.out if file is None else args.out or file.parent
    if out is None:
        raise InputError("a server has no folder for the pictures: expected --out FOLDER")
    study = find_study(args.storage, args.study)
    if study is None:
        what = "no study" if args.study is None else f"no study {args.study}"
        raise InputError(f"{what} in {without_password(args.storage)}: expected the storage of a search")
    report(study, out)
    return 0
