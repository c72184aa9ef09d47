"""On clean pairs of images stnrot is as exact as classical methods; its trained encoder aligns more of the hard pairs.

    python benchmarks/pairs.py --root data [--only mnist "photographs 64"] [--pairs 500] [--folder outputs/pairs]

35 minutes on two cores, and 90 to train the encoders, unless --folder holds them. Needs MNIST and the extra
`classical`. Pairs are digits of MNIST's test set and parts of photographs that were not trained on
(`harness/pair_sets.py`), both images rotated by independent angles over the full circle. Our methods take all pairs in
one call, the others one by one, the slow ones only the first few pairs.

Prints for each method the error of the angle in degrees (median, 95th percentile, share within 5) and the time of a
pair. Writes into --folder the errors of all pairs (`errors.json`) and for each set a figure of the error against the
true angle.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from harness import pair_methods as classical
from harness.environment import environment
from harness.pair_aligners import RIGHT_DEG, Estimate, add_options, align_all, estimate
from harness.pair_sets import LEVELS, pairs
from harness.report import Options, Row, Table, report
from stnrot.runs.command_line import one_line_errors

METHODS: dict[str, tuple[int, Callable[[np.ndarray, np.ndarray], float]]] = {  # most pairs, method
    "scikit-image polar": (500, partial(classical.polar, normalization=None)),
    "scikit-image polar, default": (500, partial(classical.polar, normalization="phase")),
    "OpenCV ECC, 1 start": (500, partial(classical.ecc, starts=1)),
    "OpenCV ECC, 16 starts": (100, partial(classical.ecc, starts=16)),
    "kornia, 8 starts": (8, partial(classical.registrator, starts=8)),
    "360 rotations": (60, classical.brute_force),
}


def classically(what: str, level: str, made: tuple[np.ndarray, ...], most: int) -> list[Estimate]:
    """Align the first pairs by each classical method, one by one."""
    image, reference, true = made
    found = []
    for name, (limit, method) in METHODS.items():
        if most == 1 and name.startswith("kornia"):  # seconds a pair
            continue
        some = list(zip(image[: min(limit, most)] / 255, reference / 255, strict=False))
        method(*some[0])
        start = time.perf_counter()
        angle = np.array([method(*pair) for pair in some])
        found.append(estimate(what, level, name, angle, true, time.perf_counter() - start, None))
    return found


def row(each: Estimate) -> Row:
    """Return the row of a method for one set and level."""
    return {
        "pairs of": each.pairs_of,
        "level": each.level,
        "method": each.method,
        "pairs": len(each.error),
        "median": f"{np.median(each.error):.4g}",
        "p95": f"{np.quantile(each.error, 0.95):.3g}",
        "within 5, %": f"{100 * np.mean(each.error <= RIGHT_DEG):.1f}",
        "ms a pair": each.ms,
    }


def draw_errors(what: str, found: list[Estimate], path: Path) -> None:
    """Draw the median error and the share within 5 degrees against the true angle."""
    levels = list(dict.fromkeys(each.level for each in found))
    figure = Figure(figsize=(4 * len(levels), 6.4), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(levels), sharex=True, sharey="row", squeeze=False)
    for (upper, lower), level in zip(axes.T, levels, strict=True):
        for each in (each for each in found if each.level == level):
            edges = np.linspace(-180, 180, 1 + max(1, min(18, len(each.error) // 4)))
            middle = (edges[1:] + edges[:-1]) / 2
            bins = np.digitize((np.degrees(each.true) + 180) % 360 - 180, edges[1:-1])
            style = {"label": each.method, "lw": 2 if each.method.startswith("stnrot") else 1}
            parts = [each.error[bins == k] for k in range(len(middle))]
            upper.plot(middle, [100 * np.mean(part <= RIGHT_DEG) if len(part) else np.nan for part in parts], **style)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the encoders, measure, draw and report."""
    options = Options(__file__, __doc__, only=["mnist"], pairs=2)
    add_options(options)
    args = options.read(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    tables, written = [], []
    for what in args.only:
        found: list[Estimate] = []
        for level in LEVELS[:1] if args.quick else LEVELS:
            if level != "unrelated" and (level != "other instance" or what == "mnist"):
                made = pairs(what, level, args.pairs, args.root)
                found += align_all(what, level, made, args) + classically(what, level, made, 1 if args.quick else 500)
                print(f"{what}, {level}: done", file=sys.stderr, flush=True)
        tables.append(Table(f"pairs of {what}", [row(each) for each in found]))
        draw_errors(what, found, args.folder / f"{what.replace(' ', '_')}.png")
        written += [{name: getattr(each, name) for name in ("pairs_of", "level", "method", "ms")} for each in found]
        for line, each in zip(written[-len(found) :], found, strict=True):
            line |= {"true": each.true.tolist(), "error": each.error.tolist()}
    report(args, environment("cpu"), *tables)
    (args.folder / "errors.json").write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    with one_line_errors():
        main()
