"""The reference of the configuration, from the keys and comments of the files in configs/."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from mkdocs.structure.pages import Page

CONFIGS = Path(__file__).parents[2] / "configs"
# keys that need no comment: class, call, files that a file builds on, text of --help
UNCOMMENTED = ("_target_", "_partial_", "defaults", "template")


class Key(NamedTuple):
    """A key of a file: its path on the command line, its value as written, and its comment."""

    path: str
    value: str
    comment: str


class Option(NamedTuple):
    """A file of configs/."""

    group: str
    name: str
    title: str  # the comment at the top of the file
    targets: list[tuple[str, str]]  # path and class
    defaults: list[str]
    keys: list[Key]


def read(path: Path) -> Option:
    """Read a file of configs/ with its comments."""
    text = path.read_text()
    lines = text.splitlines()
    header = _comments(lines, next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines)), 0)
    package = re.match(r"# @package (\S+)\n", text)
    group = path.relative_to(CONFIGS).parent.as_posix().removeprefix(".")
    prefix = group.replace("/", ".") if package is None else package[1].replace("_global_", "")
    root = yaml.compose(text)
    found = list(_walk(root, prefix, text, lines)) if isinstance(root, yaml.MappingNode) else []
    return Option(
        group,
        path.stem,
        "\n".join(line for line in header if not line.startswith("@package")),
        [(key.path.rpartition(".")[0], key.value) for key in found if key.path.endswith("_target_")],
        [chosen for each in (yaml.safe_load(text) or {}).get("defaults", []) if (chosen := _default(each))],
        [key for key in found if key.path.rpartition(".")[2] not in UNCOMMENTED],
    )


def _default(entry: str | dict[str, str | None]) -> str:
    """Write an entry of a list of defaults as on the command line."""
    (group, option), *_ = entry.items() if isinstance(entry, dict) else [("", entry)]
    if option == "_self_":
        return ""
    group = group.removeprefix("override ").lstrip("/")
    return f"{group}={option or 'null'}" if group else str(option).lstrip("/").partition("@")[0]


def _walk(node: yaml.MappingNode, prefix: str, text: str, lines: list[str]) -> Iterator[Key]:
    """Yield the keys of a mapping that have a value, depth first."""
    for key, value in node.value:
        path = f"{prefix}.{key.value}".lstrip(".")
        number = key.start_mark.line
        above = _comments(lines, number, key.start_mark.column) if number else []
        if number == len(_comments(lines, number, 0)):
            above = []  # the comment at the top is of the file
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if comment := " ".join([*above, *_trailing(lines[number], key.end_mark.column)]):
                yield Key(path, "", comment)
            yield from _walk(value, path, text, lines)
        else:
            end = value.end_mark if value.end_mark.column else key.end_mark  # a block ends at the start of a line
            written = text[value.start_mark.index : value.end_mark.index].strip()
            yield Key(path, written, " ".join([*above, *_trailing(lines[end.line], end.column)]))


def _comments(lines: list[str], number: int, column: int) -> list[str]:
    """Return the comments on the lines directly above a line, at its indentation."""
    first = number
    while first and lines[first - 1].startswith(" " * column + "#"):
        first -= 1
    return [line.strip().lstrip("#").removeprefix(" ") for line in lines[first:number]]


def _trailing(line: str, column: int) -> list[str]:
    """Return the comment behind a value, if there is one."""
    _, mark, comment = line[column:].partition(" #")
    return [comment.strip()] if mark else []


def options() -> list[Option]:
    """Read all files; a key without a comment gets that of the key that it overrides, in a file of the same group."""
    found = [read(path) for path in sorted(CONFIGS.rglob("*.yaml"))]
    comments: dict[str, str] = {}
    for option in found:
        for key in option.keys:
            if key.comment:
                comments.setdefault(key.path, key.comment)
    return [
        option._replace(keys=[key._replace(comment=key.comment or comments.get(key.path, "")) for key in option.keys])
        for option in found
    ]


def reference() -> str:
    """Write every group and every option file as Markdown."""
    blocks, group = [], None
    for option in sorted(options(), key=lambda option: (option.group, option.name)):
        if option.group != group:
            group = option.group
            blocks.append(f"## {group}" if group else "## The jobs")
        command = f"{option.group}={option.name}" if option.group else f"{option.name}.yaml"
        blocks.append(f"### `{command}`")
        blocks += _title(option.title)
        for path, target in option.targets:
            blocks.append(f"`{path or option.name}` builds {_link(target)}.")
        if option.defaults:
            blocks.append(f"Builds on {', '.join(f'`{each}`' for each in option.defaults)}.")
        if option.keys:
            rows = [f"| {_code(key.path)} | {_code(key.value)} | {_escaped(key.comment)} |" for key in option.keys]
            table = "\n".join(["| Key | Default | Meaning |", "| --- | --- | --- |", *rows])
            blocks.append(f'<div class="keys" markdown>\n\n{table}\n\n</div>')
    return "\n\n".join(blocks)


def _title(text: str) -> Iterator[str]:
    """Write the comment at the top of a file: commands as code, the rest as text."""
    for line in text.splitlines():
        yield f"```sh\n{line.strip()}\n```" if line.strip().startswith("python ") else _escaped(line)


def _link(target: str) -> str:
    return f"[`{target}`][{target}]" if target.startswith("stnrot.") else f"`{target}`"


def _code(value: str) -> str:
    """Write code that may break behind a dot, slash or underscore, so that a table fits the page."""
    if not value:
        return ""
    text = re.sub(r"[^a-zA-Z0-9 ]", lambda found: f"&#{ord(found[0])};", " ".join(value.split()))
    for mark in "./_":
        text = text.replace(f"&#{ord(mark)};", f"&#{ord(mark)};<wbr>")
    return f"<code>{text}</code>"


def _escaped(text: str) -> str:
    """Escape the characters that Markdown would interpret, except in code."""
    return re.sub(r"`[^`]*`|[*<|\[\]]", lambda found: found[0] if found[0][1:] else f"&#{ord(found[0])};", text)


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str | None:
    """Add the reference to its page."""
    return f"{markdown}\n\n{reference()}" if page.file.src_uri == "reference/configuration.md" else None
