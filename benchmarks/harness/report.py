"""The options that every benchmark has, and its report: Markdown tables on the screen and one JSON file."""

import argparse
import atexit
import datetime
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.environment import Facts

Row = Mapping[str, str | int | float | None]


@dataclass(frozen=True)
class Table:
    """Rows that all have the same columns."""

    title: str
    rows: Sequence[Row]


class Options(argparse.ArgumentParser):
    """The command line of a benchmark: `--json`, `--quick` and its own options.

    Args:
        file: file of the benchmark.
        doc: docstring of the benchmark. Its first paragraph is the claim.
        quick: values of options with `--quick`, which an explicit option overrides. With `--quick` the default of an
            option `--folder` is a temporary folder.
    """

    def __init__(self, file: str, doc: str | None, **quick: Any) -> None:
        assert doc is not None
        prog = f"python benchmarks/{Path(file).name}"
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=doc, formatter_class=formatter, allow_abbrev=False)
        self.claim, self.quick = " ".join(doc.partition("\n\n")[0].split()), quick
        self.add_argument("--json", type=new_file, metavar="PATH", help="also write the tables to this file")
        self.add_argument("--quick", action="store_true", help="tiny sizes, in seconds; the figures mean nothing")

    def add_device(self) -> None:
        """Add the option `--device`."""
        self.add_argument("--device", choices=("cpu", "cuda") if torch.cuda.is_available() else ("cpu",), default="cpu")

    def add_rounds(self, default: int | None) -> None:
        """Add the option `--rounds`."""
        self.add_argument("--rounds", type=at_least_one, default=default, help="fewer are faster and less certain")

    def add_root(self, data: str = "MNIST") -> None:
        """Add the option `--root`."""
        self.add_argument("--root", type=absolute, default=absolute("data"), help=f"folder of {data}")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Parse the arguments, those of the command line by default; also return `claim` and `command`."""
        arguments = sys.argv[1:] if arguments is None else arguments
        if "--quick" in arguments:
            self.set_defaults(**self.quick)
            if "--folder" in self._option_string_actions:
                folder = tempfile.mkdtemp(prefix="stnrot-quick-")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                self.set_defaults(folder=Path(folder))
        args = self.parse_args(arguments)
        args.claim, args.command = self.claim, " ".join([self.prog, *map(shlex.quote, arguments)])
        return args


def report(args: argparse.Namespace, facts: Facts, *tables: Table) -> None:
    """Print the facts and the tables as Markdown; with `--json` write them to that file.

    Args:
        args: from `Options.read`.
        facts: from `environment`, and what else the figures depend on.
    """
    date = datetime.date.today().isoformat()
    print(", ".join(f"{name}: {value}" for name, value in {"date": date, **facts}.items()))
    for table in tables:
        print(f"\n{table.title}\n\n{markdown(table.rows)}", flush=True)
    if args.json is not None:
        found = {"claim": args.claim, "command": args.command, "date": date, "environment": facts}
        listed = [{"title": table.title, "rows": table.rows} for table in tables]
        args.json.write_text(json.dumps(found | {"tables": listed}, indent=2) + "\n")


def markdown(rows: Sequence[Row]) -> str:
    """Return a table of rows that all have the same columns; numbers with a fraction have three digits."""
    lines = (rows[0], ["---"] * len(rows[0]), *(map(_cell, row.values()) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def at_least_one(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def absolute(text: str) -> Path:
    """Read a path, which stays valid in another working folder."""
    return Path(text).absolute()


def new_file(text: str) -> Path:
    """Read the path of a file to write, whose folder must exist; otherwise a long measurement would be lost."""
    path = absolute(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text}")
    return path


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:#.3g}" if value < 100 else f"{value:.0f}"
    return str(value)
