"""The confidence of an alignment is close to the share of angles that are right, and it is low for unrelated pairs.

    python benchmarks/pairs_confidence.py --root data [--only mnist "photographs 64"] [--folder outputs/pairs]

Six minutes on two cores, and 90 to train the encoders, unless --folder holds them (`pairs.py` leaves them). Needs MNIST
and the extra `classical`, for its photographs. Aligns the pairs of `pairs.py`, those of the levels *shifted* and
*shifted far* of `shifted_pairs.py`, and pairs of two unrelated images, whose angle is never right. An angle is right if
its error is at most 5 degrees.

Prints the mean confidence and the share that is right for each set and level; the same for tenths of all pairs in the
order of confidence; and for each method the calibration error, the mean distance of the two over the tenths, and
whether the share falls from each tenth to the next.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.environment import environment
from harness.pair_aligners import Estimate, add_options, align_all
from harness.pair_sets import LEVELS, pairs
from harness.report import Options, Row, Table, report
from stnrot.runs.command_line import one_line_errors

GROUPS = 10  # of pairs, by confidence


def by_level(each: Estimate) -> Row:
    """Return the mean confidence and the share that is right of a method for one set and level."""
    assert each.confidence is not None
    return {
        "pairs of": each.pairs_of,
        "level": each.level,
        "method": each.method,
        "confidence": float(each.confidence.mean()),
        "right": float(each.right.mean()),
    }


def tenths(found: list[Estimate], method: str) -> list[tuple[int, float, float]]:
    """Return for tenths of all pairs by confidence: their number, the mean confidence and the share that is right."""
    mine = [each for each in found if each.method == method]
    confidence = np.concatenate([each.confidence for each in mine if each.confidence is not None])
    right = np.concatenate([each.right for each in mine])
    chance = np.random.default_rng(0).permutation(len(confidence))  # many confidences are equal
    order = np.lexsort((chance, -confidence))
    groups = np.array_split(order, min(GROUPS, len(order)))
    return [(len(group), float(confidence[group].mean()), float(right[group].mean())) for group in groups]


def calibration(method: str, groups: list[tuple[int, float, float]]) -> Row:
    """Return the mean distance of confidence and share, and whether the share falls from group to group."""
    shares = [share for _, _, share in groups]
    return {
        "method": method,
        "calibration error": f"{np.mean([abs(confidence - share) for _, confidence, share in groups]):.3f}",
        "the share falls": "always" if all(a >= b for a, b in pairwise(shares)) else "not always",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the encoders, align and report."""
    options = Options(__file__, __doc__, only=["mnist"], pairs=2)
    add_options(options)
    args = options.read(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    found: list[Estimate] = []
    for what in args.only:
        for level in ("clean", "unrelated") if args.quick else (*LEVELS, "shifted", "shifted far"):
            if level != "other instance" or what == "mnist":
                found += align_all(what, level, pairs(what, level, args.pairs, args.root), args)
    by_method = {method: tenths(found, method) for method in dict.fromkeys(each.method for each in found)}
    rows: list[Row] = [
        {"method": method, "pairs": size, "confidence": confidence, "right": share}
        for method, groups in by_method.items()
        for size, confidence, share in groups
    ]
    report(
        args,
        environment("cpu"),
        Table("by set and level", [by_level(each) for each in found]),
        Table("tenths of all pairs by confidence", rows),
        Table("calibration", [calibration(method, groups) for method, groups in by_method.items()]),
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
