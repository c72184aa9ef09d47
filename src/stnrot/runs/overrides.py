"""Overrides of Hydra: groups that are switched off, and overrides that are printed for pasting."""

import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

OFF = re.compile(r"(?P<group>[\w/]+)(?P<package>@[\w.:]*)?=null", re.IGNORECASE)


def switch_groups_off(arguments: list[str], configs: Path) -> list[str]:
    """Return the arguments with `~group` for each `group=null`, which Hydra does not take for a group.

    Args:
        arguments: the command line.
        configs: folder of the configuration, which has a folder for each group.
    """
    found = [OFF.fullmatch(argument) for argument in arguments]
    return [
        argument if off is None or not (configs / off["group"]).is_dir() else f"~{argument.rpartition('=')[0]}"
        for argument, off in zip(arguments, found, strict=True)
    ]


def as_override(name: str, value: Any) -> str:
    """Return `name=value` as Hydra reads it, for a value of any characters.

    The value gets Hydra's quotes if Hydra would read another value without, such as two values in `a,b`. For a shell,
    quote the result again with `shlex`.
    """
    if value is None:
        return f"{name}=null"
    if not isinstance(value, str | Path):
        return f"{name}={value}"
    text = str(value)
    # in OmegaConf `${` begins an interpolation, `\${` is text, and `\\${` is a backslash and an interpolation
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    plain, quoted = f"{name}={text}", QuotedString(escaped, Quote.single).with_quotes()
    return plain if escaped == text and _is_read_as(plain, text) else f"{name}={quoted}"


def _is_read_as(line: str, text: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(line)
        return not override.is_sweep_override() and override.value() == text
    except HydraException:
        return False
