"""The `stnrot` command."""

import argparse
import os
import sys

from stnrot.commands import align, pose, study
from stnrot.errors import InputError


def main() -> None:
    """Run a command; what the user can put right is one line."""
    parser = argparse.ArgumentParser(prog="stnrot", description="Software that undoes rotation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (align, pose, study):
        command.add(commands)
    args = parser.parse_args()
    try:
        status = args.run(args)
        sys.stdout.flush()
        sys.exit(status)
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as `| head` does; Python would complain of what it still has to print
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
