"""Behind `Upright`, the accuracy of a frozen network on photographs varies by 1.5 points with their angle.

    python benchmarks/photographs.py --root data [--seeds 0 1 2] [--png PATH] [--grid PATH] [--json PATH]

About twelve hours a seed on one core of an AMD EPYC, and ten minutes a seed for the tables. Needs CIFAR-10 in --root
(torchvision's layout or class folders). Every trained part is kept in --folder, and the same command trains only
what is missing there. `--train encoder` trains that part alone; `--skip turned cnn` leaves out these parts and their
rows. equiadapt is optional:

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
at each angle of the input, of every fourth picture. With several seeds, all figures are mean and standard deviation.
"""

import sys
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from harness.environment import environment
from harness.figures import accuracy_by_angle
from harness.photograph_equiadapt import has_equiadapt
from harness.photograph_grid import draw_pictures
from harness.photograph_methods import BEHIND, CNN, EQUIADAPT, NETWORK, OPTIMISED, TURNED, UPRIGHT, all_methods
from harness.photograph_parts import CNN_ENCODER, PARTS, Parts
from harness.photograph_scores import Scores, TestPictures, by_angle, milliseconds, scores
from harness.plain_loop import composed
from harness.report import Options, Row, Table, absolute, at_least_one, new_file, report
from stnrot.data.image_set import ImageSet
from stnrot.data.rotated import RotatedImages
from stnrot.runs.command_line import one_line_errors

CURVES = (NETWORK, TURNED, UPRIGHT, BEHIND, CNN, EQUIADAPT, OPTIMISED)
CURVE_PICTURES = 4  # one in so many
COLUMNS = {  # column: score, format
    "upright, %": ("upright", ".1f"),
    "any angle, %": ("any angle", ".1f"),
    "below the network, points": ("below the network", ".1f"),
    "within 45 degrees, %": ("within 45", ".1f"),
    "within 5 degrees, %": ("within 5", ".1f"),
    "median error, degrees": ("median", ".1f"),
    "turned wrongly, %": ("turned wrongly", ".2f"),
    "left as they are, %": ("left", ".1f"),
    "min_confidence": ("min_confidence", ".3f"),
    "parameters": ("parameters", ",.0f"),
    "core-minutes": ("core-minutes", ".0f"),
}


def over_seeds(values: Sequence[float | None], form: str) -> str | None:
    """Write the mean and the standard deviation; None if a value is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    shown = f"{mean(known):{form}}"
    return shown if len(set(known)) == 1 else f"{shown} +- {stdev(known):{form}}"


def row(name: str, found: Sequence[Scores], ms: float, device: str) -> Row:
    """Return a method's row of the first table."""
    cells = {column: over_seeds([each[score] for each in found], form) for column, (score, form) in COLUMNS.items()}
    return {"method": name, **cells, "ms a picture": ms, "device": device}


def curve_rows(means: Mapping[str, Sequence[float]], step_deg: int) -> list[Row]:
    """Return the rows of the second table."""
    steps = range(360 // step_deg)
    return [{"degrees": k * step_deg} | {name: f"{run[k]:.1f}" for name, run in means.items()} for k in steps]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, draw and report."""
    options = Options(__file__, __doc__, seeds=[0], epochs=1, encoder_minutes=0.0, pictures=8, rounds=1)
    options.add_root("CIFAR-10")
    options.add_device()
    options.add_rounds(3)
    options.add_argument("--folder", type=absolute, default=absolute("outputs/photographs"), help="of trained parts")
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
    data, cnn = composed(*CNN_ENCODER, f"data.root={args.root}")
    assert isinstance(data, RotatedImages)
    train, validation = data.splits.train, data.splits.val
    assert isinstance(train, ImageSet)
    assert isinstance(validation, ImageSet)
    parts = Parts(args.folder, args.root, data, cnn, args.epochs, args.encoder_minutes, args.device, args.quick)
    names = [name for name in PARTS if name not in args.skip]
    if not has_equiadapt():
        names = [name for name in names if not name.startswith("equiadapt")]
        print("equiadapt is not installed: its rows are left out", file=sys.stderr)
    for seed in args.seeds:
        for name in names if args.train is None else args.train:
            parts.part(name, seed)
    if args.train is not None:
        return

    pictures = TestPictures(data, args.pictures, args.device)
    fewer = TestPictures(data, max(1, args.pictures // CURVE_PICTURES), args.device)
    step_deg = 90 if args.quick else 15
    found, curves = [], []
    for seed in args.seeds:
        trained = {name: parts.part(name, seed) for name in names}
        methods = all_methods(trained, train, validation)
        found.append(scores(methods, pictures))
        curves.append(by_angle({name: methods[name] for name in CURVES if name in methods}, fewer, step_deg))
        if seed == args.seeds[0]:
            ms = milliseconds(methods, pictures, args.rounds)
            if args.grid is not None:
                draw_pictures(trained["encoder"], pictures, args.grid)
    rows = [row(name, [each[name] for each in found], ms[name], args.device) for name in ms]
    means = {name: [mean(each) for each in zip(*(run[name] for run in curves), strict=True)] for name in curves[0]}
    facts = environment(args.device) | {"seeds": " ".join(map(str, args.seeds)), "pictures": len(pictures.index)}
    curve = Table("accuracy by angle of the input, %", curve_rows(means, step_deg))
    report(args, facts, Table("photographs of CIFAR-10", rows), curve)
    if args.png is not None:
        accuracy_by_angle(means, step_deg, "CIFAR-10, inside the disc", args.png)


if __name__ == "__main__":
    with one_line_errors():
        main()
