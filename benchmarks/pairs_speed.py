"""Without training, stnrot aligns digits 30 and single photographs 4 times as fast as scikit-image's polar recipe.

    python benchmarks/pairs_speed.py --root data [--rounds 9] [--json PATH]

Two minutes on two cores. Needs MNIST and the extra `classical`. Prints the milliseconds of a pair for 200 pairs of
MNIST in one call and for single pairs of photographs of 256 x 256 pixels, the speed-up (the median of the rounds'
ratios), and the time of one pair against its side, up to 2,048 pixels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from harness import pair_methods as classical
from harness.environment import environment
from harness.pair_aligners import FREE, batch
from harness.pair_sets import pairs
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from stnrot import Aligner
from stnrot.runs.command_line import one_line_errors

RECIPE = "scikit-image polar"
SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)  # pixels
LEAD_IN = 10  # calls: after a method of one thread a virtual machine takes a while to give both cores again


def beside_recipe(what: str, count: int, at_once: int, root: Path, rounds: int, lead_in: int) -> Row:
    """Time the alignment of `count` pairs by our method, `at_once` in a call, and by scikit-image's recipe."""
    image, reference, _ = pairs(what, "noisy", count, root)
    aligner = Aligner()

    def ours() -> None:
        for k in range(0, count, at_once):
            aligner(batch(image[k : k + at_once]), batch(reference[k : k + at_once]))

    def theirs() -> None:
        for pair in zip(image / 255, reference / 255, strict=True):
            classical.polar(*pair, normalization=None)

    times = alternate({FREE: ours, RECIPE: theirs}, rounds, lead_in, 5, "cpu")
    each = {f"{name}, ms a pair": f"{1e3 * median(t) / count:.3g}" for name, t in times.items()}
    return {"pairs of": what, "ours, at once": at_once, **each, "speed-up": f"{speedup(times, FREE, RECIPE):.1f}"}


def by_side(sides: Sequence[int], root: Path, rounds: int, lead_in: int) -> list[Row]:
    """Time one pair at each side."""
    whole = pairs("photographs 256", "clean", 1, root)[:2]
    aligner = Aligner()

    def job(side: int) -> Callable[[], object]:
        image, reference = (torch.nn.functional.interpolate(batch(x).float(), size=(side, side)) for x in whole)
        return partial(aligner, image, reference)

    times = alternate({str(side): job(side) for side in sides}, rounds, lead_in, 5, "cpu")
    return [{"side, pixels": int(side), "ms a pair": f"{1e3 * median(t):.3g}"} for side, t in times.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Time and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_root()
    options.add_rounds(9)
    args = options.read(arguments)
    lead_in = 1 if args.quick else LEAD_IN
    beside: list[Row] = [
        beside_recipe(what, 2 if args.quick else count, at_once, args.root, args.rounds, lead_in)
        for what, count, at_once in (("mnist", 200, 200), ("photographs 256", 4, 1))
    ]
    sides = SIDES[:3] if args.quick else SIDES
    growth = by_side(sides, args.root, args.rounds, lead_in)
    report(args, environment("cpu"), Table("beside scikit-image", beside), Table("one pair, by its side", growth))


if __name__ == "__main__":
    with one_line_errors():
        main()
