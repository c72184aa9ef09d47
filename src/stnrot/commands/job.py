"""Run one of the two jobs from a subcommand of `stnrot`."""

import sys
from importlib import import_module
from typing import Annotated, TypeAlias

import typer

from stnrot.errors import needs_extra

JOBS = ("train", "evaluate")
CONTEXT = {"ignore_unknown_options": True, "help_option_names": []}  # Hydra reads the command line, `--help` too
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE ...]", help="Options of the configuration, and flags of Hydra."),
]


def run_job(name: str, arguments: list[str]) -> None:
    """Run `train` or `evaluate` with the arguments of its script."""
    with needs_extra(f"stnrot {name}"):
        job = import_module(f"stnrot.jobs.{name}")
    # the file, because Lightning starts further processes by it, or by the module after `python -m`
    sys.argv = [str(job.__file__), *arguments]
    sys.modules["__main__"].__spec__ = None
    if "--help" in arguments:
        sys.argv.append(f"hydra.help.app_name='stnrot {name}'")
    job.command()
