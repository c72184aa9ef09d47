"""Of the errors on `mnist_rot`, the larger half is misread at the true angle too.

    python benchmarks/misread.py --root data [--options model/classifier=residual ...] [--folder PATH] [--json PATH]

An hour of one core with the default model. Needs MNIST. Trains `experiment=mnist_rot` on 10,000 images, with further
options of train.py if there are any, unless --folder holds that run. Reads the 10,000 digits that are neither in the
training set nor in the test set: the 2,000 to validate, and the 8,000 of MNIST's 70,000 that the protocol leaves out.
So options can be compared by it, and the test set stays unseen.

Prints three tables. `cause`: the digits that are misread; those of them that the classifier also misreads at the true
angle; those that it misreads only at the angle that was found; and all that it misreads at the true angle. `angle
error`: the same by the error of the angle. `classes`: the pairs of classes that are mistaken for each other most often.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.environment import environment
from harness.jobs import QUICK, best, run_job
from harness.plain_loop import composed
from harness.report import Options, Row, Table, absolute, at_least_one, report
from stnrot.data.rng import Split, permutation
from stnrot.data.rotated import RotatedImages
from stnrot.data.sources.mnist import POOLED, all_digits
from stnrot.errors import InputError
from stnrot.geometry import angular_distance, rotate
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors

EXPERIMENT = ("experiment=mnist_rot", "data.source.fit_validation=false")
BATCH = 500
BOUNDS_DEG = (5, 15, 45, 90, 150, 180)
MOST_PAIRS = 10


@dataclass(frozen=True)
class Readings:
    """What a model reads in digits: at the angle that it finds, and when it is told the true angle."""

    label: Tensor
    found: Tensor
    told: Tensor
    angle_error_deg: Tensor

    @property
    def misread(self) -> Tensor:
        """Whether each digit is misread."""
        return self.found != self.label

    @property
    def misread_if_told(self) -> Tensor:
        """Whether each digit is misread at its true angle."""
        return self.told != self.label


def run(folder: Path, options: Sequence[str]) -> Path:
    """Return the checkpoint of a run with these options; train it first if the folder is empty."""
    file = folder / "options.json"
    if (folder / "metrics.json").exists():
        known = json.loads(file.read_text())
        if known != list(options):
            raise InputError(f"{folder}: expected a run with the options {list(options)}, it has {known}")
    else:
        run_job("train.py", folder, options, torch.get_num_threads())
        file.write_text(json.dumps(list(options)) + "\n")
    return best(folder)


def held_out(root: Path, options: Sequence[str]) -> RotatedImages:
    """Return data whose test set are the digits that are used neither for training nor for the test."""
    data, _ = composed(*options, f"data.root={root}")
    assert isinstance(data, RotatedImages)
    if data.splits.turned:
        raise InputError(f"--root {root}: expected MNIST alone, found mnist-rot, whose angles are not known")
    digits = all_digits(root)
    _, val, _, unused = permutation((data.split_seed,), len(digits)).split(POOLED)
    data.splits = replace(data.splits, test=digits.subset(torch.cat((val, unused))))
    return data


@torch.inference_mode()
def read(model: RotSTN, data: RotatedImages, count: int) -> Readings:
    """Return what a model reads in the first digits of the test set."""
    assert model.classifier is not None
    found = []
    for index in torch.arange(min(count, len(data.splits.test))).split(BATCH):
        batch = data.view(data.splits.test.__getitems__(index), Split.TEST)
        assert batch.angle is not None
        assert batch.label is not None
        prediction = model(batch.image, None)
        told = model.classifier(rotate(batch.image, batch.angle, model.interpolation)).argmax(1)
        off = angular_distance(prediction.orientation.angle[:, 0], batch.angle).rad2deg()
        found.append((batch.label, prediction.log_probability.argmax(1), told, off))
    return Readings(*(torch.cat(each) for each in zip(*found, strict=True)))


def causes(readings: Readings) -> list[Row]:
    """Return the table of causes."""
    misread, told = readings.misread, readings.misread_if_told
    rows = {
        "misread": misread,
        "of these, also at the true angle": misread & told,
        "of these, only at the angle found": misread & ~told,
        "misread at the true angle": told,
    }
    count = len(readings.label)
    return [{"digits": n, "number": int(k.sum()), "%": f"{100 * k.sum() / count:.2f}"} for n, k in rows.items()]


def by_angle_error(readings: Readings) -> list[Row]:
    """Return the table by the error of the angle."""
    place = torch.bucketize(readings.angle_error_deg, torch.tensor(BOUNDS_DEG[:-1]))
    rows: list[Row] = []
    for k, high in enumerate(BOUNDS_DEG):
        here = place == k
        rows.append(
            {
                "degrees off": f"{BOUNDS_DEG[k - 1] if k else 0} to {high}",
                "digits, %": f"{100 * here.float().mean():.1f}",
                "misread": int((here & readings.misread).sum()),
                "also at the true angle": int((here & readings.misread & readings.misread_if_told).sum()),
            }
        )
    return rows


def by_classes(readings: Readings) -> list[Row]:
    """Return the pairs of classes that are mistaken for each other most often."""
    pairs: Counter[tuple[int, ...]] = Counter()
    told: Counter[tuple[int, ...]] = Counter()
    for k in readings.misread.nonzero()[:, 0].tolist():
        pair = tuple(sorted((int(readings.label[k]), int(readings.found[k]))))
        pairs[pair] += 1
        told[pair] += bool(readings.misread_if_told[k])
    return [
        {"classes": f"{pair[0]} and {pair[1]}", "misread": count, "also at the true angle": told[pair]}
        for pair, count in pairs.most_common(MOST_PAIRS)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train if needed, read and report."""
    options = Options(__file__, __doc__, digits=BATCH)
    options.add_root()
    options.add_argument("--options", nargs="+", default=[], metavar="OPTION", help="further options of train.py")
    options.add_argument("--folder", type=absolute, default=absolute("outputs/misread"), help="of the run")
    options.add_argument("--digits", type=at_least_one, default=10_000, help="to read, at most 10,000")
    args = options.read(arguments)
    chosen = [*EXPERIMENT, *args.options, *(QUICK * args.quick)]
    checkpoint = run(args.folder, [*chosen, f"data.root={args.root}"])
    model = rebuild(read_checkpoint(checkpoint), checkpoint).model.eval().to(memory_format=torch.channels_last)
    if not isinstance(model, RotSTN):
        raise InputError(f"--options: expected a run of model=rot_stn, got {type(model).__name__}")
    readings = read(model, held_out(args.root, chosen), args.digits)
    tables = [Table("cause", causes(readings)), Table("angle error", by_angle_error(readings))]
    if readings.misread.any():
        tables.append(Table("classes", by_classes(readings)))
    report(args, environment("cpu") | {"options": " ".join(args.options) or "none"}, *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
