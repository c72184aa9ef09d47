"""The page of the current results, from what the benchmarks wrote."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
LONG = 16  # rows; a longer table is folded
FIGURES = {"accuracy": "few_labels", "pose_descent": "descent"}  # others have the name of their benchmark


def accuracy() -> dict[str, Any]:
    """Make the tables of docs/accuracy.jsonl by the benchmark itself, without the lists of the seeds' values."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "accuracy.json"
        command = [sys.executable, "benchmarks/accuracy.py", "--report-only", "--json", str(path)]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(path.read_text())
    for table in found["tables"]:
        table["rows"] = [{name: _without_seeds(cell) for name, cell in row.items()} for row in table["rows"]]
    dates = {row["date"] for table in found["tables"] for row in table["rows"] if "date" in row}
    return found | {
        "command": "python benchmarks/accuracy.py --root data",
        "date": max(dates)[-10:],
        "environment": {"device": "see the column `device`, where `cpu` is an AMD EPYC"},
        "notes": ["`python benchmarks/accuracy.py --report-only` prints these tables with the value of each seed."],
    }


def _without_seeds(cell: object) -> object:
    return re.sub(r" \([\d., ]+\)", "", cell) if isinstance(cell, str) else cell


def current() -> dict[str, dict[str, Any]]:
    """Return the newest results of each benchmark by its name."""
    files = sorted((DOCS / "results").glob("*.json"))
    return {"accuracy": accuracy()} | {path.stem: json.loads(path.read_text()) for path in files}


def results() -> Iterator[str]:
    """Write an overview, then for each benchmark its claim, command, date, device and tables."""
    found = current()
    overview = [
        {"Date": each["date"].replace("-", "&#8209;"), "Benchmark": f"[{_title(name)}](#{name})"}
        | {"Claim": each["claim"]}
        | {"Device": each["environment"].get("gpu") or each["environment"].get("cpu") or "several"}
        for name, each in found.items()
    ]
    yield _table(overview)
    for name, each in found.items():
        yield f"## {_title(name)} {{ #{name} }}"
        yield each["claim"]
        yield f"```sh\n{each['command']}\n```"
        facts = ", ".join(f"{key}: {value}" for key, value in ({"date": each["date"]} | each["environment"]).items())
        yield facts + _source(each)
        for path in (DOCS / "images").glob(f"{FIGURES.get(name, name)}.*"):
            yield f"![{each['claim']}](../images/{path.name})"
        yield from each.get("notes", [])
        for table in each["tables"]:
            body = _table(table["rows"])
            if len(table["rows"]) > LONG:
                yield f'??? note "{table["title"]} ({len(table["rows"])} rows)"\n\n' + re.sub(
                    "^", "    ", body, flags=re.M
                )
            else:
                yield f"**{table['title']}**\n\n{body}"


def _title(name: str) -> str:
    """Write the name of a benchmark as words."""
    return name.replace("_", " ").capitalize().replace("gpu", "on a GPU").replace("xeon", "on an Intel Xeon")


def _source(found: Mapping[str, Any]) -> str:
    """Link to the section of the archive that figures were taken from; its commands are those of that day."""
    heading = found.get("source", "").partition("heading ")[2]
    return f" ([archive](archive.md#{slugify(heading, '-')}))" if heading else ""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = (rows[0], ["---"] * len(rows[0]), *(map(_cell, row.values()) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: str | float | None) -> str:
    """Write a cell: three digits for a number with a fraction."""
    if isinstance(value, float):
        return f"{value:#.3g}" if value < 100 else f"{value:.0f}"
    text = "" if value is None else str(value).replace("+-", "±")
    return text.replace("-", "\u2011") if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text  # a date stays on its line


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str | None:
    """Add the results to their page."""
    return "\n\n".join([markdown, *results()]) if page.file.src_uri == "results/index.md" else None
