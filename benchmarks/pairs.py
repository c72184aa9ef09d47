"""Align pairs of pictures: this project beside scikit-image, OpenCV and kornia, from clean pairs to hard ones.

    python benchmarks/pairs.py --root data [--only mnist "photographs 64"] [--pairs 500] [--folder outputs/pairs]

Pairs are digits of MNIST's test set and parts of photographs that training never saw (`pair_sets.py`), both pictures
turned by independent angles over the full circle. The encoders are first trained by `train.py`, unless the folder
holds them. Needs the extra `classical`.

Printed as Markdown, and written into the folder as JSON and PNG: for each method the error of the angle in degrees
(median, 95th percentile, share within 5) and the time of a pair; the error against the true angle; how the share of
right angles follows the confidence. Our methods take all pairs at once, the others one by one, the slow ones only the
first of them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pair_methods as classical  # type: ignore[import-not-found]
import torch
from matplotlib.figure import Figure
from pair_sets import LEVELS, SIZES, pairs, write_parts  # type: ignore[import-not-found]
from timing import environment, in_turn, markdown, speedup  # type: ignore[import-not-found]

from stnrot import Aligner

PROJECT = Path(__file__).resolve().parents[1]
RUNS = {"mnist": "pairs_mnist", "other instance": "upright_angle", "photographs": "pairs_photos"}  # experiments
FREE, LEARNED, REFINED = "stnrot, no training", "stnrot, learned", "stnrot, learned and refined"
RECIPE = "scikit-image polar"
OTHERS: dict[str, tuple[int, Callable[[np.ndarray, np.ndarray], float]]] = {  # most pairs, method
    RECIPE: (500, partial(classical.polar, normalization=None)),
    "scikit-image polar, default": (500, partial(classical.polar, normalization="phase")),
    "OpenCV ECC, 1 start": (500, partial(classical.ecc, starts=1)),
    "OpenCV ECC, 16 starts": (100, partial(classical.ecc, starts=16)),
    "kornia, 8 starts": (8, partial(classical.registrator, starts=8)),
    "360 rotations": (60, classical.brute_force),
}
SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)  # pixels
LEAD_IN = 10  # calls: after a method of one thread it takes a virtual machine a while to give both cores again
RIGHT = 5.0  # degrees
GROUPS = 10  # of pairs, by confidence
Rows = list[dict[str, Any]]


def train(folder: Path, root: str) -> dict[str, Path]:
    """Return the checkpoints of the encoders by what they are for, trained if the folder lacks them."""
    parts = folder / "parts"
    if not parts.exists():
        write_parts(parts, 96, 10800)
    checkpoints = {}
    for what, experiment in RUNS.items():
        run = folder / experiment
        if not (run / "metrics.json").exists():
            data = parts.absolute() if what == "photographs" else root
            command = [sys.executable, str(PROJECT / "train.py"), f"experiment={experiment}", f"data.root={data}"]
            subprocess.run([*command, f"hydra.run.dir={run.absolute()}", "callbacks.progress=null"], check=True)
        checkpoints[what] = run / "checkpoints" / "best.ckpt"
    return checkpoints


def batch(pictures: np.ndarray) -> torch.Tensor:
    """Return bytes as a batch of one channel."""
    return torch.from_numpy(pictures)[:, None]


def measure(what: str, level: str, args: argparse.Namespace, checkpoints: dict[str, Path]) -> Rows:
    """Return a record for each method, with its angles and, of ours, its confidences."""
    image, reference, true = pairs(what, level, args.pairs, args.root)
    checkpoint = checkpoints[level if level == "other instance" else what.split()[0]]
    records: Rows = []

    def record(name: str, angle: np.ndarray, seconds: float, confidence: np.ndarray | None) -> None:
        error = np.abs((np.degrees(angle - true[: len(angle)]) + 180) % 360 - 180)
        known = {"pairs of": what, "level": level, "method": name, "true": true[: len(angle)], "error": error}
        records.append(known | {"ms": 1e3 * seconds / len(angle), "confidence": confidence})

    ours = {FREE: Aligner(), LEARNED: Aligner(checkpoint, refine=False), REFINED: Aligner(checkpoint)}
    for name, aligner in ours.items():
        aligner(batch(image[:50]), batch(reference[:50]))  # plans its convolutions
        start = time.perf_counter()
        found = aligner(batch(image), batch(reference))
        record(name, found.angle.numpy(), time.perf_counter() - start, found.confidence.numpy())
    for name, (most, method) in OTHERS.items() if level != "unrelated" else ():
        some = list(zip(image[:most], reference[:most], strict=True))
        method(some[0][0] / 255, some[0][1] / 255)
        start = time.perf_counter()
        angle = np.array([method(a / 255, b / 255) for a, b in some])
        record(name, angle, time.perf_counter() - start, None)
    return records


def table(records: Rows) -> Rows:
    """Return what is printed of the records of one set and level."""
    return [
        {
            "pairs of": each["pairs of"],
            "level": each["level"],
            "method": each["method"],
            "pairs": str(len(each["error"])),
            "median": f"{np.median(each['error']):.4g}",
            "p95": f"{np.quantile(each['error'], 0.95):.3g}",
            "within 5, %": f"{100 * np.mean(each['error'] <= RIGHT):.1f}",
            "ms a pair": float(each["ms"]),
        }
        for each in records
    ]


def calibration(records: Rows, method: str) -> dict[str, Any]:
    """Return, for tenths of all pairs by confidence, the mean confidence and the share that is right.

    With them the mean distance of the two, and whether the share falls from tenth to tenth.
    """
    mine = [each for each in records if each["method"] == method]
    confidence = np.concatenate([each["confidence"] for each in mine])
    right = np.concatenate([(each["error"] <= RIGHT) & (each["level"] != "unrelated") for each in mine])
    chance = np.random.default_rng(0).permutation(len(confidence))  # many are as sure as can be
    order = np.lexsort((chance, -confidence))
    groups = [
        {
            "method": method,
            "pairs": str(len(group)),
            "confidence": confidence[group].mean(),
            "right": right[group].mean(),
        }
        for group in np.array_split(order, GROUPS)
    ]
    error = np.mean([abs(group["confidence"] - group["right"]) for group in groups])
    return {"groups": groups, "error": error, "falls": all(a["right"] >= b["right"] for a, b in pairwise(groups))}


def by_level(records: Rows) -> Rows:
    """Return how sure our methods were on each set and level, and what share was right."""
    return [
        {
            "pairs of": each["pairs of"],
            "level": each["level"],
            "method": each["method"],
            "confidence": float(each["confidence"].mean()),
            "right": float(np.mean((each["error"] <= RIGHT) & (each["level"] != "unrelated"))),
        }
        for each in records
        if each["confidence"] is not None
    ]


def draw_errors(records: Rows, path: Path) -> None:
    """Draw the error, its median and the share that is right, against the true angle."""
    what = records[0]["pairs of"]
    levels = [level for level in LEVELS if level != "unrelated" and any(each["level"] == level for each in records)]
    figure = Figure(figsize=(4 * len(levels), 6.4), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(levels), sharex=True, sharey="row", squeeze=False)
    for (upper, lower), level in zip(axes.T, levels, strict=True):
        for each in (each for each in records if each["level"] == level):
            edges = np.linspace(-180, 180, 1 + min(18, len(each["error"]) // 4))
            middle = (edges[1:] + edges[:-1]) / 2
            bins = np.digitize((np.degrees(each["true"]) + 180) % 360 - 180, edges[1:-1])
            style = {"label": each["method"], "lw": 2 if each["method"].startswith("stnrot") else 1}
            parts = [each["error"][bins == k] for k in range(len(middle))]
            upper.plot(middle, [100 * np.mean(part <= RIGHT) if len(part) else np.nan for part in parts], **style)
            lower.semilogy(middle, [np.median(part) if len(part) else np.nan for part in parts], **style)
        upper.set_title(level)
        lower.set_xlabel("true angle, degrees")
        for each_axes in (upper, lower):
            each_axes.grid(alpha=0.3)
    axes[0, 0].set_ylabel("within 5 degrees, %")
    axes[1, 0].set_ylabel("median error, degrees")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(what)
    figure.savefig(path)


def speed(what: str, count: int, at_once: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return how many times as long scikit-image's recipe takes, in turn with ours."""
    image, reference, _ = pairs(what, "noisy", count, args.root)
    aligner, recipe = Aligner(), OTHERS[RECIPE][1]

    def ours() -> None:
        for k in range(0, count, at_once):
            aligner(batch(image[k : k + at_once]), batch(reference[k : k + at_once]))

    def theirs() -> None:
        for pair in zip(image / 255, reference / 255, strict=True):
            recipe(*pair)

    times = in_turn({FREE: ours, RECIPE: theirs}, args.rounds, LEAD_IN, 5, "cpu")
    each = {f"{name}, ms a pair": f"{1e3 * float(np.median(t)) / count:.3g}" for name, t in times.items()}
    return (
        {"pairs of": what, "ours, at once": str(at_once)} | each | {"speed-up": f"{speedup(times, FREE, RECIPE):.1f}"}
    )


def growth(args: argparse.Namespace) -> Rows:
    """Return the time of one pair against its side."""
    whole = pairs("photographs 256", "clean", 1, args.root)[:2]
    aligner = Aligner()

    def job(side: int) -> Callable[[], object]:
        image, reference = (torch.nn.functional.interpolate(batch(x).float(), size=(side, side)) for x in whole)
        return partial(aligner, image, reference)

    times = in_turn({str(side): job(side) for side in SIDES}, args.rounds, LEAD_IN, 5, "cpu")
    return [{"side, pixels": side, "ms a pair": f"{1e3 * float(np.median(t)):.3g}"} for side, t in times.items()]


def main() -> None:
    """Train, measure, print and draw."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", default="data", help="the folder of MNIST")
    options.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), metavar="SET")
    options.add_argument("--pairs", type=int, default=500, help="of each set and level")
    options.add_argument("--rounds", type=int, default=9, help="of the speed-up; fewer are faster and less certain")
    options.add_argument("--folder", type=Path, default=Path("outputs/pairs"))
    args = options.parse_args()
    args.root = os.path.abspath(args.root)
    args.folder.mkdir(parents=True, exist_ok=True)
    checkpoints = train(args.folder, args.root)

    facts = environment("cpu")
    print(", ".join(f"{key}: {value}" for key, value in facts.items()))
    written: dict[str, Any] = {"environment": facts, "errors": []}
    everything: Rows = []
    for what in args.only:
        levels = [level for level in LEVELS if level != "other instance" or what == "mnist"]
        records = [each for level in levels for each in measure(what, level, args, checkpoints)]
        rows = table([each for each in records if each["level"] != "unrelated"])
        print(f"\n{markdown(rows)}", flush=True)
        draw_errors(records, args.folder / f"{what.replace(' ', '_')}.png")
        raw = ("pairs of", "level", "method", "ms", "true", "error", "confidence")
        written["errors"] += [
            {name: each[name].tolist() if isinstance(each[name], np.ndarray) else each[name] for name in raw}
            for each in records
        ]
        everything += records
    written["by level"] = by_level(everything)
    print(f"\n{markdown(written['by level'])}")
    written["calibration"] = {method: calibration(everything, method) for method in (FREE, LEARNED, REFINED)}
    print(f"\n{markdown([row for each in written['calibration'].values() for row in each['groups']])}\n")
    for method, each in written["calibration"].items():
        falls = "falls" if each["falls"] else "does not always fall"
        print(f"{method}: calibration error {each['error']:.3f}; the share that is right {falls} with the confidence")
    written["speed"] = [speed("mnist", 200, 200, args), speed("photographs 256", 4, 1, args)]
    written["growth"] = growth(args)
    print(f"\n{markdown(written['speed'])}\n\n{markdown(written['growth'])}")
    (args.folder / "pairs.json").write_text(json.dumps(written, indent=2, default=float) + "\n")


if __name__ == "__main__":
    main()
