"""Trained on upright digits alone, `rot_stn` with blur=1.6 is as accurate at every angle of the input as upright.

    python benchmarks/by_angle.py --root data [--folder outputs/accuracy] [--png PATH] [--json PATH]

Ten minutes on two cores. Needs MNIST, and below --folder the runs that `python benchmarks/accuracy.py --only
upright_only --runs new.jsonl` leaves, 90 core-minutes. Rotates all of MNIST's 10,000 test images by each of 24 angles
and classifies them.

Prints for each model, one value a seed: the accuracy over all angles, the accuracy at the angle where it differs most
from that, and how well the predicted angle follows the rotation. The last compares the change of the prediction with
the rotation, over all images and angles: the median, the 95th percentile and the largest difference in degrees, and the
share of differences beyond 90 degrees, where another hypothesis came first. A second table has the accuracy at each
angle.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from harness.accuracy_runs import spread
from harness.accuracy_tables import EXPERIMENTS
from harness.accuracy_training import checkpoints, train_quickly
from harness.environment import environment
from harness.figures import accuracy_by_angle
from harness.report import Options, Row, Table, absolute, new_file, report
from stnrot.data.image_data import as_float
from stnrot.data.image_set import ImageSet
from stnrot.data.sources.mnist import mnist
from stnrot.geometry import angular_distance, rotate_bicubic
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision

EXPERIMENT = "upright_only"
STEP_DEG = 15
BATCH = 500


def by_angle(checkpoint: Path, digits: ImageSet, step_deg: int) -> tuple[list[float], Tensor | None]:
    """Return the accuracy in percent at each angle, and the differences (degrees) of prediction and rotation."""
    model = rebuild(read_checkpoint(checkpoint), checkpoint).model.to(memory_format=torch.channels_last)
    images, labels = as_float(digits.image), digits.label
    assert labels is not None
    bf16 = auto_precision("cpu") == "bf16-mixed"
    accuracy, angles = [], []
    for degrees in range(0, 360, step_deg):
        rotation = torch.full((BATCH,), math.radians(degrees))
        right, predicted = 0, []
        for image, label in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                prediction = model(rotate_bicubic(image, rotation), None)
            right += int((prediction.log_probability.argmax(1) == label).sum())
            if prediction.orientation is not None:
                predicted.append(prediction.orientation.angle[:, 0].float() + rotation)
        accuracy.append(100 * right / len(labels))
        angles += [torch.cat(predicted)] if predicted else []
    if not angles:
        return accuracy, None
    return accuracy, torch.cat([angular_distance(angle, angles[0]) for angle in angles[1:]]).rad2deg()


def furthest(run: list[float]) -> float:
    """Return the value that differs most from the mean of the run."""
    middle = mean(run)
    return max(run, key=lambda value: abs(value - middle))


def row(name: str, runs: Sequence[list[float]], differences: Sequence[Tensor | None]) -> Row:
    """Return a model's row of the first table."""
    return {
        "model": name,
        "accuracy over all angles, %": spread([mean(run) for run in runs]),
        "where it differs most from that, %": ", ".join(f"{furthest(run):.2f}" for run in runs),
        "follows the rotation, degrees off: median; p95; worst; beyond 90, %": ", ".join(
            "{:.1f}; {:.1f}; {:.0f}; {:.2f}".format(
                *np.quantile(off.numpy(), (0.5, 0.95, 1)), 100 * (off > 90).float().mean()
            )
            for off in differences
            if off is not None
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw and report."""
    options = Options(__file__, __doc__)
    options.add_root()
    options.add_argument("--folder", type=absolute, default=absolute("outputs/accuracy"), help="of accuracy.py")
    options.add_argument("--png", type=new_file, metavar="PATH", help="draw the accuracy to this file")
    args = options.read(arguments)
    digits = mnist(args.root, 0, True).test
    assert isinstance(digits, ImageSet)
    step_deg = STEP_DEG
    if args.quick:
        digits, step_deg = digits.subset(torch.arange(BATCH)), 90
        train_quickly(args.folder, args.root, EXPERIMENT)
    rows: list[Row] = []
    means: dict[str, list[float]] = {}
    for name, paths in checkpoints(args.folder, EXPERIMENT, EXPERIMENTS[EXPERIMENT][1]).items():
        found, differences = zip(*(by_angle(path, digits, step_deg) for path in paths), strict=True)
        rows.append(row(name, found, differences))
        means[name] = [mean(each) for each in zip(*found, strict=True)]
    curves: list[Row] = [
        {"degrees": k * step_deg} | {name: means[name][k] for name in means} for k in range(360 // step_deg)
    ]
    report(args, environment("cpu"), Table("accuracy by model", rows), Table("accuracy by rotation, %", curves))
    if args.png is not None:
        accuracy_by_angle(means, step_deg, "MNIST, trained on upright digits alone", args.png)


if __name__ == "__main__":
    with one_line_errors():
        main()
