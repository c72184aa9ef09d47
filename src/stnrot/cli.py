"""The `stnrot` command: its subcommands, its errors and its exit codes."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from stnrot.commands.align import ALIGN_EXAMPLES, align
from stnrot.commands.pose import POSE_EXAMPLES, pose
from stnrot.commands.study import STUDY_EXAMPLES, study
from stnrot.errors import InputError


class Commands(TyperGroup):
    """Run a subcommand and return its exit code.

    A user error exits with 1, Ctrl-C with 130, a closed pipe with 141. Typer would exit with 1 for a closed pipe.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand that was parsed."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status
        except InputError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:  # from `| head`; else Python complains at exit about output that it cannot flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
for _command, _examples in ((align, ALIGN_EXAMPLES), (pose, POSE_EXAMPLES), (study, STUDY_EXAMPLES)):
    app.command(epilog=_examples)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"stnrot {version('stnrot')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Software that undoes rotation: align images, find the pose of a solid, report a search."""


def main() -> None:
    """Run the command line; print a usage error as one line and exit with 2."""
    try:
        sys.exit(app(prog_name="stnrot", standalone_mode=False))
    except TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "stnrot")
        message = error.format_message().rstrip(".")
        print(f"error: {message}; see `{command} --help`", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
