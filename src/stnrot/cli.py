"""The `stnrot` command: its subcommands, error lines and exit codes."""

import os
import re
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stnrot.commands import (
    align,
    demo,
    evaluate,
    export,
    merge,
    pose,
    predict,
    publish,
    report,
    shards,
    study,
    train,
    upright,
)
from stnrot.commands.job import CONTEXT, JOBS
from stnrot.errors import CLOSED, FULL, InputError
from stnrot.printed import printable

UsageError: Any = typer.BadParameter.__mro__[1]  # of click in older releases of Typer, of Typer itself in newer ones


class Commands(TyperGroup):
    """Run a subcommand. A user error exits with 1 and one line, Ctrl-C with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Return the exit code of the subcommand, 0 or 1."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            sys.exit(f"error: {printable(self._with_option(ctx, str(error)))}")
        except OSError as error:
            if error.filename is None or error.errno not in CLOSED:
                raise
            sys.exit(f"error: {printable(str(error))}; expected a path that you are allowed to use")
        except KeyboardInterrupt:
            sys.exit(130)

    def _with_option(self, ctx: Any, message: str) -> str:
        """Name the option in a message that begins with the argument: `fov_deg=0: ...` becomes `--fov-deg=0: ...`."""
        options = {each.name: each.opts[0] for each in self.commands[ctx.invoked_subcommand].params}
        name = re.match(r"\w+(?==|: )", message)
        option = options.get(name[0], "") if name else ""
        return option + message[name.end() :] if name and option.startswith("--") else message


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
COMMANDS = {
    "align": align,
    "demo": demo,
    "evaluate": evaluate,
    "export": export,
    "merge": merge,
    "pose": pose,
    "predict": predict,
    "publish": publish,
    "report": report,
    "shards": shards,
    "study": study,
    "train": train,
    "upright": upright,
}
for _name, _module in COMMANDS.items():
    _context = CONTEXT if _name in JOBS else None
    app.command(_name, epilog=_module.EXAMPLES, context_settings=_context)(getattr(_module, _name))


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
    """Undo rotation: align images, classify them at any angle, find the pose of a solid."""


def main() -> None:
    """Run the command line. A usage error exits with 2 and one line, a closed pipe (`| head`) with 141."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal does not have
    try:
        status = app(prog_name="stnrot", standalone_mode=False)
        if sys.stdout is not None:  # closed before the start, `>&-`
            sys.stdout.flush()
    except UsageError as error:
        if message := error.format_message():  # empty for a bare `stnrot`, which has printed its help
            command = " ".join(["stnrot", *(word for word in sys.argv[1:2] if word in COMMANDS)])
            stop = "" if message[-1] in ".?" else "."
            print(f"error: {printable(message)}{stop} See `{command} --help`.", file=sys.stderr)
        status = 2
    except (BrokenPipeError, SystemExit) as end:  # Typer and Rich turn a closed pipe into an exit with 1
        if not isinstance(end.__context__ or end, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at exit
        status = 141
    except OSError as error:
        if error.errno not in FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"error: the output cannot be written: {error}; make room on the disk, or choose another")
    sys.exit(status)


if __name__ == "__main__":
    main()
