"""Without training, `align(motion="rigid")` finds angle and shift of pairs that are rotated by any angle and shifted.

    python benchmarks/shifted_pairs.py --root data [--only mnist "photographs 64"] [--pairs 500] [--json PATH]

Six minutes on two cores. Needs MNIST and the extra `classical`. Pairs are those of `benchmarks/pairs.py`, with two more
levels: *shifted* by up to 7 % of the side along each axis, and *shifted far*, by up to 25 %, both with noise of 0.05
and a change of brightness. *Noisy* pairs are not shifted, *hard* ones are shifted by up to 7 %. Pairs are aligned one
by one, as a user would. SIFT with RANSAC needs no common middle either; `align` without `motion` does.

Prints for each method the error of the angle (median, share within 5 degrees), the share of pairs whose shift is right
within half a pixel, the mean confidence, and the time of a pair.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from harness.environment import environment
from harness.pair_aligners import RIGHT_DEG
from harness.pair_methods import sift
from harness.pair_sets import SIZES, shifted_pairs
from harness.report import Options, Row, Table, at_least_one, report
from stnrot import align
from stnrot.runs.command_line import one_line_errors

LEVELS = ("noisy", "shifted", "shifted far", "hard", "unrelated")
Found = tuple[float, np.ndarray, float | None]  # angle, place of the middle of the reference, confidence


def rigid(image: np.ndarray, reference: np.ndarray) -> Found:
    """Find angle and shift by `align`."""
    found = align(image, reference, motion="rigid")
    return found.angle.item(), found.motions.offset[0, 0].numpy(), found.confidence.item()


def rotation(image: np.ndarray, reference: np.ndarray) -> Found:
    """Find the angle by `align`."""
    found = align(image, reference)
    return found.angle.item(), np.zeros(2), found.confidence.item()


def keypoints(image: np.ndarray, reference: np.ndarray) -> Found:
    """Find both by SIFT."""
    return (*sift(image / 255, reference / 255), None)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Found]] = {
    "stnrot, rigid": rigid,
    "stnrot, rotation": rotation,
    "OpenCV, SIFT and RANSAC": keypoints,
}


def row(level: str, name: str, made: tuple[np.ndarray, ...]) -> Row:
    """Align pairs one by one by a method, and return its row."""
    images, references, true, shifts, _ = made
    method = METHODS[name]
    method(images[0], references[0])
    start = time.perf_counter()
    found = [method(*pair) for pair in zip(images, references, strict=True)]
    ms = 1e3 * (time.perf_counter() - start) / len(found)
    angle, place = np.array([each[0] for each in found]), np.stack([each[1] for each in found])
    error = np.abs((np.degrees(angle - true) + 180) % 360 - 180)
    off = np.linalg.norm(place - shifts, axis=1)
    sure = [each[2] for each in found if each[2] is not None]
    return {
        "level": level,
        "method": name,
        "median, degrees": f"{np.median(error):.3g}",
        "within 5, %": f"{100 * np.mean(error <= RIGHT_DEG):.1f}",
        "shift within 0.5 pixels, %": f"{100 * np.mean(off <= 0.5):.1f}",
        "mean confidence": f"{np.mean(sure):.3f}" if sure else None,
        "ms a pair": ms,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Align the pairs of all sets and report."""
    options = Options(__file__, __doc__, only=["mnist"], pairs=2)
    options.add_root()
    options.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), metavar="SET")
    options.add_argument("--pairs", type=at_least_one, default=500, help="of each set and level")
    args = options.read(arguments)
    tables = []
    for what in args.only:
        rows = []
        for level in LEVELS:
            made = shifted_pairs(what, level, args.pairs, args.root)
            rows += [row(level, name, made) for name in METHODS]
        tables.append(Table(f"pairs of {what}", rows))
    report(args, environment("cpu"), *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
