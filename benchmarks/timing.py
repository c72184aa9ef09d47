"""What the benchmarks share: timing several methods in turn, and a report that names its machine."""

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch

Times = dict[str, list[float]]


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    made.add_argument("--device", choices=devices, default="cpu")
    made.add_argument("--rounds", type=at_least_one, default=rounds, help="fewer are faster and less certain")
    made.add_argument("--json", type=Path, metavar="PATH", help="write the table there as well")
    return made


def at_least_one(text: str) -> int:
    """Return the number that an option gives."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def in_turn(methods: Mapping[str, Callable[[], object]], rounds: int, lead_in: int, calls: int, device: str) -> Times:
    """Return the seconds that one call of each method took, round by round.

    In a round each method has its turn, `lead_in` calls that are not timed and then `calls` that are, so
    that whatever else keeps the machine busy falls on all methods alike. A first round is thrown away.
    """
    seconds: Times = {name: [] for name in methods}
    for _ in range(1 + rounds):
        for name, method in methods.items():
            for _ in range(lead_in):
                method()
            start = _now(device)
            for _ in range(calls):
                method()
            seconds[name].append((_now(device) - start) / calls)
    return {name: each[1:] for name, each in seconds.items()}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def speedup(times: Times, ours: str, other: str) -> float:
    """Return how many times as long the other method takes: the median of the rounds' ratios."""
    return median(b / a for a, b in zip(times[ours], times[other], strict=True))


def environment(device: str) -> dict[str, str | int]:
    """Return what a timing depends on besides the code."""
    found: dict[str, str | int] = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": _cpu_name(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def report(facts: Mapping[str, str | int], rows: Sequence[Mapping[str, str | float]], path: Path | None) -> None:
    """Print the facts and a Markdown table of the rows; write both as JSON."""
    print(", ".join(f"{name}: {value}" for name, value in facts.items()), markdown(rows), sep="\n\n")
    if path is not None:
        path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")


def markdown(rows: Sequence[Mapping[str, str | float]]) -> str:
    """Return the rows, all with the same columns, as a table."""
    lines = (rows[0], ["---"] * len(rows[0]), *(map(_cell, row.values()) for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:#.3g}" if value < 100 else f"{value:.0f}"
