"""Convert docstrings to Markdown: doctests become code, paragraphs under a word become definitions."""

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"(?:^|(?<=\n\n))( *)(>>> .*(?:\n\1\S.*)*)")
TERM = re.compile(r"^([A-Z]\w+)\n    (?=\S)", re.MULTILINE)


class Docstrings(Extension):
    """Make doctests blocks of code, and `Word` over an indented paragraph a definition."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object that was found."""
        if obj.docstring is not None:
            text = DOCTEST.sub(_fenced, obj.docstring.value)
            obj.docstring.value = TERM.sub(r"\1\n:   ", text)


def _fenced(found: re.Match[str]) -> str:
    return f"{found[1]}```pycon\n{found[1]}{found[2]}\n{found[1]}```"
