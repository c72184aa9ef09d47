"""Behind `Upright`, the mean accuracy of three frozen networks on photographs varies by 0.8 points with their angle.

    python benchmarks/photographs.py --root data [--seeds 0 1 2] [--png PATH] [--grid PATH] [--json PATH]

About twelve hours a seed on one core of an AMD EPYC, and half an hour a seed for the tables. Needs CIFAR-10 in --root
(torchvision's layout or class folders). The result of a seed is a line of `--runs`, by default docs/photographs.jsonl.
A seed with a line of the same budget and all wanted parts is not repeated, also not on another machine. To measure from
scratch, name a new file. Every trained part is kept in --folder, and the same command trains only what is missing
there. `--train encoder` trains that part alone; `--skip turned cnn` leaves out these parts and their rows. equiadapt is
optional:

    pip install --no-deps equiadapt e2cnn && pip install scipy sympy     # besides the extra `classical`

All methods read the 10,000 test pictures at the angles of `evaluate.py`. Outside the inscribed disc all pictures are
black, the upright ones too. The parts of a seed:

- `network`: a small CNN, trained on upright pictures that are shifted and mirrored, and then frozen;
- `encoder`: a run of `experiment=upright_photos`, which `Upright` puts in front of the network;
- `behind`: the same network, trained for as many epochs on pictures at any angle that `encoder` has turned upright;
- `turned`: the same network, trained on pictures at any angle, for as many core-minutes as `network` and `encoder`;
- `cnn`: as `encoder`, with `model/encoder=cnn`, a CNN that regresses the angle, for as many core-minutes;
- `equiadapt`, `equiadapt_optimised`: canonicalisers of eight rotations in front of the network, trained by their own
  loss for as many core-minutes as `encoder`. They turn a picture by a multiple of 45 degrees.

Test-time averaging takes the mean of the class probabilities over 8 or 16 rotations of the picture. The intensity
direction points from the middle to the centroid of the grey values. The last row rotates by the true angle: the best
that an encoder can reach. `unsure left` has the `min_confidence` at which 1 % of the upright validation pictures are
turned wrongly.

Prints for each method the accuracy on upright pictures and at any angle, and how many points the latter is below the
accuracy of the network on upright pictures. The error of the angle is that of the worst of the five views of the leak
check. A picture is turned wrongly if it is upright and turned by more than 45 degrees. A second table has the accuracy
at each angle of the input, of every fourth picture. With several seeds, the figures are mean, standard deviation and
each value; the core-minutes and milliseconds are those of each seed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.figures import accuracy_by_angle
from harness.jobs import PROJECT
from harness.json_lines import append_line
from harness.photograph_equiadapt import has_equiadapt
from harness.photograph_grid import draw_pictures
from harness.photograph_methods import BEHIND, CNN, EQUIADAPT, NETWORK, OPTIMISED, TURNED, UPRIGHT, all_methods
from harness.photograph_parts import CNN_ENCODER, PARTS, Parts
from harness.photograph_runs import Result, facts_of, known_results, mean_curves, result_of_seed, tables
from harness.photograph_scores import TestPictures, by_angle, milliseconds, scores
from harness.plain_loop import composed
from harness.report import Options, absolute, at_least_one, new_file, report
from stnrot.data.image_set import ImageSet
from stnrot.data.rotated import RotatedImages
from stnrot.runs.command_line import one_line_errors

CURVES = (NETWORK, TURNED, UPRIGHT, BEHIND, CNN, EQUIADAPT, OPTIMISED)
CURVE_PICTURES = 4  # one in so many


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what is missing, draw and report."""
    options = Options(__file__, __doc__, seeds=[0], runs=None, epochs=1, encoder_minutes=0.0, pictures=8, rounds=1)
    options.add_root("CIFAR-10")
    options.add_device()
    options.add_rounds(3)
    options.add_argument("--folder", type=absolute, default=absolute("outputs/photographs"), help="of trained parts")
    options.add_argument("--runs", type=absolute, default=PROJECT / "docs" / "photographs.jsonl", help="of results")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED", help="of all parts")
    options.add_argument("--train", nargs="+", choices=PARTS, metavar="PART", help="train these parts only, no tables")
    options.add_argument(
        "--skip", nargs="+", choices=PARTS[2:], default=[], metavar="PART", help="leave out their rows"
    )
    options.add_argument("--epochs", type=at_least_one, default=10, help="of the network")
    options.add_argument("--encoder-minutes", type=float, help="its core-minutes, if the others are trained before it")
    options.add_argument("--pictures", type=at_least_one, default=10_000, help="for the test")
    options.add_argument("--png", type=new_file, metavar="PATH", help="draw the accuracy by angle to this file")
    options.add_argument("--grid", type=new_file, metavar="PATH", help="draw test pictures to this file")
    args = options.read(arguments)
    runs = args.runs or args.folder / "runs.jsonl"
    budget = {key: getattr(args, key) for key in ("pictures", "epochs", "encoder_minutes", "device")}
    names = [name for name in PARTS if name not in args.skip]
    optional = [name for name in names if name.startswith("equiadapt")]
    if args.train is None and optional and not has_equiadapt():
        names = [name for name in names if name not in optional]
        print("equiadapt is not installed: its rows are left out", file=sys.stderr)
    results = known_results(runs, budget, names)
    missing = [seed for seed in args.seeds if seed not in results]
    if missing or args.train is not None or args.grid is not None:
        parts = all_parts(args)
    if args.train is not None:
        train(parts, args.seeds, args.train)
        return
    if missing:
        for seed in missing:
            results[seed] = measured(parts, seed, names, budget, args)
            append_line(runs, results[seed])
    reported = [results[seed] for seed in args.seeds]
    report(args, facts_of(reported), *tables(reported))
    if args.grid is not None:
        encoder = parts.part("encoder", args.seeds[0])
        draw_pictures(encoder, TestPictures(parts.data, args.pictures, args.device), args.grid)
    if args.png is not None:
        curves = mean_curves(reported)
        accuracy_by_angle(curves, 360 // len(curves[UPRIGHT]), "CIFAR-10, inside the disc", args.png)


def all_parts(args: argparse.Namespace) -> Parts:
    """Return where the parts are and how they are trained."""
    data, cnn = composed(*CNN_ENCODER, f"data.root={args.root}")
    assert isinstance(data, RotatedImages)
    return Parts(args.folder, args.root, data, cnn, args.epochs, args.encoder_minutes, args.device, args.quick)


def train(parts: Parts, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Train the parts that are not there."""
    for seed in seeds:
        for name in names:
            parts.part(name, seed)


def measured(
    parts: Parts, seed: int, names: Sequence[str], budget: Mapping[str, Any], args: argparse.Namespace
) -> Result:
    """Train what is missing of a seed, and measure it."""
    train(parts, [seed], names)
    fit, validation = parts.data.splits.train, parts.data.splits.val
    assert isinstance(fit, ImageSet)
    assert isinstance(validation, ImageSet)
    pictures = TestPictures(parts.data, args.pictures, args.device)
    fewer = TestPictures(parts.data, max(1, args.pictures // CURVE_PICTURES), args.device)
    methods = all_methods({name: parts.part(name, seed) for name in names}, fit, validation)
    found = scores(methods, pictures)
    curves = by_angle({name: methods[name] for name in CURVES if name in methods}, fewer, 90 if args.quick else 15)
    ms = milliseconds(methods, pictures, args.rounds)
    return result_of_seed(seed, budget, names, args.device, found, curves, ms)


if __name__ == "__main__":
    with one_line_errors():
        main()
