"""`Alignment.mirrored` finds most mirrored pairs of photographs, and hardly ever marks a rotated or an unrelated pair.

    python benchmarks/mirrored.py [--pairs 400]

One minute on one core. Needs the extra `classical`, for its photographs. Takes the pairs of `pairs.py`, and mirrors
the references of some. Prints the share that is marked, by size and level.
"""

from collections.abc import Sequence

import numpy as np
import torch

from harness.environment import environment
from harness.pair_sets import SIZES, pairs
from harness.report import Options, Row, Table, at_least_one, report
from stnrot import align
from stnrot.runs.command_line import one_line_errors

KINDS = (("clean", True), ("noisy", True), ("clean", False), ("noisy", False), ("unrelated", False))


def marked(what: str, level: str, mirror: bool, count: int) -> float:
    """Return the share of pairs that is marked as mirrored."""
    images, references, _ = pairs(what, level, count, root=None)
    given, other = (torch.from_numpy(np.ascontiguousarray(each))[:, None] for each in (images, references))
    return align(given, other.flip(-1) if mirror else other).mirrored.float().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Align and report."""
    options = Options(__file__, __doc__, pairs=2)
    options.add_argument("--pairs", type=at_least_one, default=400, help="of each row")
    args = options.read(arguments)
    rows: list[Row] = [
        {"pairs of": what, "level": level, "reference": "mirrored" if mirror else "as it is"}
        | {"pairs": args.pairs, "marked, %": 100 * marked(what, level, mirror, args.pairs)}
        for what in list(SIZES)[1:3]
        for level, mirror in KINDS
    ]
    report(args, environment("cpu"), Table("pairs that are marked as mirrored", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
