"""Without training, `align(motion="rigid")` finds angle and shift of pairs that are rotated by any angle and shifted.

    python benchmarks/shifted_pairs.py --root data [--only mnist "photographs 64"] [--pairs 500] [--json PATH]

Twenty minutes on one core. Needs MNIST and the extra `classical`. Pairs are those of `benchmarks/pairs.py`, with three
more levels: *shifted* by up to 7 % of the side along each axis, *shifted far*, by up to 25 %, and *scaled* by 0.7 to
1.4 and shifted by up to 7 %, all with noise of 0.05 and a change of brightness. *Noisy* pairs are not shifted, *hard*
ones are shifted by up to 7 %. Pairs are aligned one by one, as a user would; slow methods take the first 100 pairs.
SIFT always searches a scale, imreg_dft and pystackreg only on scaled pairs. pystackreg starts from no motion: it is
meant for frames that are almost aligned.

Prints for each method the error of the angle (median, share within 5 degrees), the share of pairs whose shift is right
within half a pixel, the share whose scale is right within 1 % (if it is searched), the mean confidence, and the time of
a pair.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from harness.environment import environment
from harness.pair_aligners import RIGHT_DEG
from harness.pair_methods import Moved, fourier, sift, stackreg
from harness.pair_sets import SIZES, shifted_pairs
from harness.report import Options, Row, Table, at_least_one, report
from stnrot import align
from stnrot.alignment.motion_kind import MotionKind
from stnrot.runs.command_line import one_line_errors

LEVELS = ("noisy", "shifted", "shifted far", "scaled", "hard", "unrelated")
Found = tuple[float, np.ndarray, float | None, float | None]  # as `Moved`, without a scale if it is 1; confidence
Method = tuple[int, Callable[[np.ndarray, np.ndarray], Found]]  # most pairs, since some are slow


def ours(image: np.ndarray, reference: np.ndarray, motion: MotionKind) -> Found:
    """Find the motion by `align`."""
    found = align(image, reference, motion=motion)
    scale = found.scale.item() if motion == "similarity" else None
    return (
        found.angle.item(),
        torch.view_as_real(found.motions.offset)[0, 0].numpy(),
        scale,
        found.confidence.item(),
    )


def classical(image: np.ndarray, reference: np.ndarray, method: Callable[..., Moved], **scaled: bool) -> Found:
    """Find the motion by a method that has no confidence."""
    angle, place, scale = method(image / 255, reference / 255, **scaled)
    return angle, place, scale if scaled.get("scaled", True) else None, None


METHODS: dict[str, Method] = {
    "stnrot, rigid": (500, partial(ours, motion="rigid")),
    "stnrot, rotation": (500, partial(ours, motion="rotation")),
    "stnrot, similarity": (500, partial(ours, motion="similarity")),
    "OpenCV, SIFT and RANSAC": (500, partial(classical, method=sift)),
    "imreg_dft, 3 iterations": (100, partial(classical, method=fourier, scaled=False)),
    "pystackreg, rigid body": (100, partial(classical, method=stackreg, scaled=False)),
}
SCALED: dict[str, Method] = {
    **{name: METHODS[name] for name in ("stnrot, similarity", "OpenCV, SIFT and RANSAC")},
    "imreg_dft, 3 iterations": (100, partial(classical, method=fourier, scaled=True)),
    "pystackreg, scaled rotation": (100, partial(classical, method=stackreg, scaled=True)),
}


def row(level: str, name: str, method: Method, made: tuple[np.ndarray, ...]) -> Row:
    """Align pairs one by one by a method, and return its row."""
    most, find = method
    images, references, true, shifts, scales = (each[:most] for each in made)
    find(images[0], references[0])
    start = time.perf_counter()
    found = [find(*pair) for pair in zip(images, references, strict=True)]
    ms = 1e3 * (time.perf_counter() - start) / len(found)
    angle, place = np.array([each[0] for each in found]), np.stack([each[1] for each in found])
    error = np.abs((np.degrees(angle - true) + 180) % 360 - 180)
    off = np.linalg.norm(place - shifts, axis=1)
    scale = np.array([each[2] for each in found if each[2] is not None])
    sure = [each[3] for each in found if each[3] is not None]
    return {
        "level": level,
        "method": name,
        "pairs": len(found),
        "median, degrees": f"{np.median(error):.3g}",
        "within 5, %": f"{100 * np.mean(error <= RIGHT_DEG):.1f}",
        "shift within 0.5 pixels, %": f"{100 * np.mean(off <= 0.5):.1f}",
        "scale within 1 %, %": f"{100 * np.mean(np.abs(scale / scales - 1) <= 0.01):.1f}" if len(scale) else None,
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
            methods = SCALED if level == "scaled" else METHODS
            rows += [row(level, name, method, made) for name, method in methods.items()]
        tables.append(Table(f"pairs of {what}", rows))
    report(args, environment("cpu"), *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
