"""Files of results, one JSON object a line, to which lines are appended."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stnrot.regular_file import check_regular


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line; none if there is no such file."""
    if not path.absolute().parent.is_dir():
        raise SystemExit(f"{path}: expected a file in a folder that exists")
    check_regular(path)
    for number, text in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            raise no_result(path, number)
        yield number, line


def no_result(path: Path, number: int) -> SystemExit:
    """Return the error of a line that is not the result of a run."""
    expected = "expected the result of a run as JSON; if the line is cut off, delete it"
    return SystemExit(f"{path}, line {number}: {expected}")


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append an object."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
