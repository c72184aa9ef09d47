"""Of the errors on `mnist_rot`, the larger half is misread at the true angle too.

    python benchmarks/misread.py --root data [--folder outputs/accuracy] [--json PATH]

A minute a run. Needs MNIST, and below --folder runs that `python benchmarks/accuracy.py --only mnist_rot --runs
new.jsonl` leaves, 110 core-minutes with a residual classifier. Reads the 8,000 of MNIST's 70,000 digits that are
neither in the training set nor in the test set. So models can be compared by it, and the test set stays unseen.

Prints for each model, of all its seeds together and in percent of all digits: those that are misread; those of them
that the classifier also misreads at the true angle; those that it misreads only at the angle that was found; and all
that it misreads at the true angle. Then, as numbers of digits, the misread ones by the error of the angle, and by the
pairs of classes that are mistaken for each other most often.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.accuracy_tables import EXPERIMENTS
from harness.accuracy_training import checkpoints, train_quickly
from harness.environment import environment
from harness.plain_loop import composed
from harness.report import Options, Row, Table, absolute, report
from stnrot.data.rng import Split, permutation
from stnrot.data.rotated import RotatedImages
from stnrot.data.sources.mnist import POOLED, all_digits
from stnrot.errors import InputError
from stnrot.geometry import angular_distance, rotate
from stnrot.models.model import Model
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors

EXPERIMENT = "mnist_rot"
# without angle labels, upright is another angle
MODELS = [
    name
    for name, options in EXPERIMENTS[EXPERIMENT][1].items()
    if not any(option.startswith(("model=", "task.angle_weight", "task.congeal_epochs")) for option in options)
]
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


def joined(parts: Sequence[Readings]) -> Readings:
    """Return the readings of all parts as one."""
    return Readings(*map(torch.cat, zip(*(astuple(part) for part in parts), strict=True)))


def held_out(root: Path, count: int) -> RotatedImages:
    """Return data whose test set is the first digits of those that are used neither for training nor for the test."""
    data, _ = composed(f"experiment={EXPERIMENT}", f"data.root={root}")
    assert isinstance(data, RotatedImages)
    if data.splits.turned:
        raise InputError(f"--root {root}: expected MNIST alone, found mnist-rot, whose angles are not known")
    digits = all_digits(root)
    unused = permutation((data.split_seed,), len(digits)).split(POOLED)[-1]
    data.splits = replace(data.splits, test=digits.subset(unused[:count]))
    return data


@torch.inference_mode()
def read(model: Model, data: RotatedImages) -> Readings:
    """Return what a model reads in the test set."""
    model.eval().to(memory_format=torch.channels_last)
    assert isinstance(model, RotSTN)
    assert model.classifier is not None
    found = []
    for index in torch.arange(len(data.splits.test)).split(BATCH):
        batch = data.view(data.splits.test.__getitems__(index), Split.TEST)
        assert batch.angle is not None
        assert batch.label is not None
        prediction = model(batch.image, None)
        told = model.classifier(rotate(batch.image, batch.angle, model.interpolation)).argmax(1)
        off = angular_distance(prediction.orientation.angle[:, 0], batch.angle).rad2deg()
        found.append(Readings(batch.label, prediction.log_probability.argmax(1), told, off))
    return joined(found)


def causes(readings: Readings) -> Row:
    """Return the cells of the table of causes."""
    misread, told = readings.misread, readings.misread_if_told
    shares = {
        "misread, %": misread,
        "also at the true angle, %": misread & told,
        "only at the angle found, %": misread & ~told,
        "misread at the true angle, %": told,
    }
    return {column: f"{100 * share.float().mean():.2f}" for column, share in shares.items()}


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
    """Read and report."""
    options = Options(__file__, __doc__)
    options.add_root()
    options.add_argument("--folder", type=absolute, default=absolute("outputs/accuracy"), help="of accuracy.py")
    args = options.read(arguments)
    if args.quick:
        train_quickly(args.folder, args.root, EXPERIMENT)
    data = held_out(args.root, BATCH if args.quick else POOLED[-1])
    rows: list[Row] = []
    details: list[Table] = []
    for name, paths in checkpoints(args.folder, EXPERIMENT, MODELS).items():
        readings = joined([read(rebuild(read_checkpoint(path), path).model, data) for path in paths])
        rows.append({"model": name, "runs": len(paths), **causes(readings)})
        details.append(Table(f"{name}: by the error of the angle", by_angle_error(readings)))
        if readings.misread.any():
            details.append(Table(f"{name}: by class", by_classes(readings)))
    report(args, environment("cpu"), Table("cause", rows), *details)


if __name__ == "__main__":
    with one_line_errors():
        main()
