"""The page of the current results, from what the benchmarks wrote."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[2]
RESULTS = PROJECT / "docs" / "results"
LONG = 16  # rows; a longer table is folded
ACCURACY = "python benchmarks/accuracy.py --root data"


def accuracy() -> dict[str, Any]:
    """Put the runs of docs/accuracy.jsonl together, as the benchmark itself does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accuracy.json"
        command = [sys.executable, "benchmarks/accuracy.py", "--report-only", "--folder", folder, "--json", str(path)]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(path.read_text())
    dates = [json.loads(line)["date"] for line in (PROJECT / "docs" / "accuracy.jsonl").read_text().splitlines()]
    return {
        "claim": "Test error and angle error of whole runs, three seeds or more",
        "command": ACCURACY,
        "date": max(dates),
        "environment": {"device": "of each row in its last columns; without a GPU one core of an AMD EPYC"},
        "notes": ["`python benchmarks/accuracy.py --report-only` prints these tables with the value of each seed."],
        "tables": [{"title": each["title"], "rows": [_short(row) for row in each["rows"]]} for each in found["tables"]],
    }


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the list of the seeds' values."""
    return {name: re.sub(r" \([\d., ]+\)", "", cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def current() -> dict[str, dict[str, Any]]:
    """Return the newest results of each benchmark by its name."""
    files = sorted(RESULTS.glob("*.json"))
    return {"accuracy": accuracy()} | {path.stem: json.loads(path.read_text()) for path in files}


def sections() -> Iterator[str]:
    """Write an overview, then for each benchmark its command, date, device and tables."""
    results = current()
    rows = [
        {"Benchmark": f"[{each['claim']}](#{name})", "Date": each["date"], "Device": _device(each["environment"])}
        for name, each in results.items()
    ]
    yield _table(rows)
    for name, each in results.items():
        yield f"## {each['claim']} {{ #{name} }}"
        yield f"```sh\n{each['command']}\n```"
        facts = {"date": each["date"]} | each["environment"]
        yield ", ".join(f"{key}: {value}" for key, value in facts.items())
        if "source" in each:
            heading = each["source"].partition("heading ")[2]
            yield f"From the archive: [{heading}](archive.md#{slugify(heading, '-')})"
        picture = {"accuracy": "few_labels", "pose_descent": "descent"}.get(name, name)
        for path in (PROJECT / "docs" / "images").glob(f"{picture}.*"):
            yield f"![{each['claim']}](../images/{path.name})"
        yield from each.get("notes", [])
        for table in each["tables"]:
            body = _table(table["rows"])
            if len(table["rows"]) > LONG:
                indented = "\n".join(f"    {line}" for line in body.splitlines())
                yield f'??? note "{table["title"]} ({len(table["rows"])} rows)"\n\n{indented}'
            else:
                yield f"**{table['title']}**\n\n{body}"


def _device(environment: Mapping[str, Any]) -> str:
    return str(environment.get("gpu") or environment.get("cpu") or "by row")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = (rows[0], ["---"] * len(rows[0]), *(map(_cell, row.values()) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: str | float | None) -> str:
    """Write a cell: three digits for a number with a fraction."""
    if value is None or isinstance(value, (str, int)):
        return "" if value is None else str(value).replace("+-", "±")
    return f"{value:#.3g}" if value < 100 else f"{value:.0f}"


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str | None:
    """Add the results to their page."""
    return "\n\n".join([markdown, *sections()]) if page.file.src_uri == "results/index.md" else None
