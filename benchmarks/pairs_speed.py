"""Without training, stnrot aligns digits 30 and photographs 1.5 to 4 times as fast as scikit-image's polar recipe.

    python benchmarks/pairs_speed.py --root data [--rounds 9] [--json PATH] [--against COMMIT]

Three minutes on two cores. Needs MNIST and the extra `classical`. Prints the milliseconds of a pair for 200 pairs of
MNIST in one call and for single pairs of MNIST and of photographs of 64, 128 and 256 pixels, the speed-up (the median
of the rounds' ratios), and the time of a pair against its side, up to 2,048 pixels, by rotation and by rigid motion,
alone and in a batch. With `--against COMMIT` the code
of that commit is loaded as well and takes turns with this code and the recipe.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from harness import pair_methods as classical
from harness.environment import environment
from harness.pair_aligners import FREE, batch
from harness.pair_sets import pairs
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from harness.two_commits import known_commit, tree_of
from stnrot import Aligner
from stnrot.alignment.motion_kind import MotionKind
from stnrot.runs.command_line import one_line_errors

RECIPE = "scikit-image polar"
SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)  # pixels
BESIDE = (  # pairs, how many, how many in one call
    ("mnist", 200, 200),
    ("mnist", 10, 1),
    ("photographs 64", 6, 1),
    ("photographs 128", 6, 1),
    ("photographs 256", 4, 1),
)
PIXELS, MOST = 2**18, 256  # of a batch: pixels, pairs
LEAD_IN = 10  # calls: after a method of one thread a virtual machine takes a while to give both cores again


def aligner_of(commit: str) -> Any:
    """Import the code of another commit beside this code, and return its `Aligner`."""
    own = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "stnrot"}
    with TemporaryDirectory() as folder:
        source = str(tree_of(commit, Path(folder)) / "src")
        for name in own:
            del sys.modules[name]
        sys.path.insert(0, source)
        try:
            from stnrot import Aligner as Other

            Other()(torch.rand(9, 9), torch.rand(9, 9))  # imports whatever it needs
            return Other()
        finally:
            sys.path.remove(source)
            for name in [name for name in sys.modules if name.split(".")[0] == "stnrot"]:
                del sys.modules[name]
            sys.modules.update(own)


def beside_recipe(
    what: str, count: int, at_once: int, others: dict[str, Any], root: Path, rounds: int, lead_in: int
) -> Row:
    """Time the alignment of `count` pairs by our method, `at_once` in a call, by others, and by scikit-image's recipe.

    Args:
        others: aligners by their names.
    """
    image, reference, _ = pairs(what, "noisy", count, root)

    def all_by(aligner: Any) -> None:
        for k in range(0, count, at_once):
            aligner(batch(image[k : k + at_once]), batch(reference[k : k + at_once]))

    def theirs() -> None:
        for pair in zip(image / 255, reference / 255, strict=True):
            classical.polar(*pair, normalization=None)

    ours = {name: partial(all_by, aligner) for name, aligner in ({FREE: Aligner()} | others).items()}
    times = alternate({**ours, RECIPE: theirs}, rounds, lead_in, 5, "cpu")
    each = {f"{name}, ms a pair": f"{1e3 * median(t) / count:.3g}" for name, t in times.items()}
    row: dict[str, str | int | float | None] = {"pairs of": what, "ours, at once": at_once, **each}
    row["speed-up"] = f"{speedup(times, FREE, RECIPE):.1f}"
    return row | {f"against {name}": f"{speedup(times, FREE, name):.2f}" for name in others}


def by_side(sides: Sequence[int], root: Path, rounds: int, lead_in: int) -> list[Row]:
    """Time pairs at each side: one, and as many as have PIXELS pixels."""
    whole = pairs("photographs 256", "shifted", 1, root)[:2]
    aligner = Aligner()

    def job(side: int, count: int, motion: MotionKind) -> Callable[[], object]:
        image, reference = (
            torch.nn.functional.interpolate(batch(x).float(), size=(side, side)).expand(count, -1, -1, -1)
            for x in whole
        )
        return partial(aligner, image, reference, motion)

    rows: list[Row] = []
    for side in sides:
        many = min(MOST, max(1, PIXELS // side**2))
        kinds: list[tuple[int, MotionKind]] = [(1, "rotation"), (1, "rigid"), (many, "rotation"), (many, "rigid")]
        jobs = {f"{count} {motion}": job(side, count, motion) for count, motion in kinds}
        times = {name: 1e3 * median(t) for name, t in alternate(jobs, rounds, lead_in, 2, "cpu").items()}
        row: dict[str, str | int | float | None] = {"side, pixels": side, "batch": many}
        for where, (count, motion) in zip(("one", "one", "batch", "batch"), kinds, strict=True):
            row[f"{motion}, {where}, ms a pair"] = f"{times[f'{count} {motion}'] / count:.3g}"
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Time and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_root()
    options.add_rounds(9)
    options.add_argument("--against", type=known_commit, metavar="COMMIT", help="time the code of this commit as well")
    args = options.read(arguments)
    others = {args.against: aligner_of(args.against)} if args.against is not None else {}
    lead_in = 1 if args.quick else LEAD_IN
    beside: list[Row] = [
        beside_recipe(what, 2 if args.quick else count, at_once, others, args.root, args.rounds, lead_in)
        for what, count, at_once in BESIDE
    ]
    sides = SIDES[:3] if args.quick else SIDES
    growth = by_side(sides, args.root, args.rounds, min(lead_in, 2))
    report(args, environment("cpu"), Table("beside scikit-image", beside), Table("by the side of the images", growth))


if __name__ == "__main__":
    with one_line_errors():
        main()
