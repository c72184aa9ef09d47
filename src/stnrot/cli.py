"""The `stnrot` command: its subcommands, error lines and exit codes."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stnrot.commands import align, pose, study
from stnrot.errors import InputError

UsageError: Any = typer.BadParameter.__mro__[1]  # of click in older releases of Typer, of Typer itself in newer ones


class Commands(TyperGroup):
    """Run a subcommand. A user error exits with 1 and one line, Ctrl-C with 130, a closed pipe with 141."""

    def invoke(self, ctx: Any) -> Any:
        """Return the exit code of the subcommand, 0 or 1."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status
        except InputError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:  # `| head`: else Python complains at exit that it cannot flush, and Typer exits with 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
COMMANDS = {"align": align, "pose": pose, "study": study}
for _name, _module in COMMANDS.items():
    app.command(_name, epilog=_module.EXAMPLES)(getattr(_module, _name))


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"stnrot {version('stnrot')}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Undo rotation: align images, find the pose of a solid, report on a search."""


def main() -> None:
    """Run the command line. A usage error exits with 2 and one line."""
    try:
        sys.exit(app(prog_name="stnrot", standalone_mode=False))
    except UsageError as error:
        if message := error.format_message():  # empty for a bare `stnrot`, which has printed its help
            command = " ".join(["stnrot", *(word for word in sys.argv[1:2] if word in COMMANDS)])
            print(f"error: {message}{'' if message[-1] in '.?' else '.'} See `{command} --help`.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
