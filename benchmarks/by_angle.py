"""Accuracy against the turn of the input: why one would undo the rotation.

    python benchmarks/by_angle.py --root data [--folder outputs/accuracy] [--png PATH] [--json PATH]

turns all of MNIST's 10,000 test pictures by each of 24 angles and reads them with the models, trained on upright digits
alone, that `benchmarks/accuracy.py --only upright_only --runs NEW.jsonl` left below --folder. Says how far the accuracy
at one angle is from that over all, and how far the predicted angle follows the turn: of its change, less the turn, the
median, the 95th percentile and the worst over all pictures and turns, and the share that is off by more than 90
degrees: another hypothesis came first. Takes about ten minutes on two cores.
"""

import argparse
import json
import math
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from accuracy import best, place  # type: ignore[import-not-found]
from accuracy_runs import spread  # type: ignore[import-not-found]
from accuracy_tables import EXPERIMENTS  # type: ignore[import-not-found]
from matplotlib.figure import Figure
from timing import environment, markdown  # type: ignore[import-not-found]
from torch import Tensor

from stnrot.data.image_data import as_float
from stnrot.data.image_set import ImageSet
from stnrot.data.sources.mnist import mnist
from stnrot.geometry import angular_distance, rotate_bicubic
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision

TABLE = "upright_only"
STEP_DEG = 15
BATCH = 500


def by_angle(checkpoint: Path, digits: ImageSet) -> tuple[list[float], Tensor | None]:
    """Return the accuracy, in percent, at each angle, and by how much (degrees) the prediction does not follow."""
    model = rebuild(read_checkpoint(checkpoint), checkpoint).model.to(memory_format=torch.channels_last)
    images, labels = as_float(digits.image), digits.label
    assert labels is not None
    bf16 = auto_precision("cpu") == "bf16-mixed"
    accuracy, angles = [], []
    for degrees in range(0, 360, STEP_DEG):
        turn = torch.full((BATCH,), math.radians(degrees))
        right, said = 0, []
        for image, label in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                prediction = model(rotate_bicubic(image, turn), None)
            right += int((prediction.log_probability.argmax(1) == label).sum())
            if prediction.orientation is not None:
                said.append(prediction.orientation.angle[:, 0].float() + turn)
        accuracy.append(100 * right / len(labels))
        angles += [torch.cat(said)] if said else []
    if not angles:
        return accuracy, None
    return accuracy, torch.cat([angular_distance(angle, angles[0]) for angle in angles[1:]]).rad2deg()


def furthest(run: list[float]) -> float:
    """Return the value that is furthest from the mean of the run."""
    middle = mean(run)
    return max(run, key=lambda value: abs(value - middle))


def draw(curves: dict[str, list[list[float]]], path: Path) -> None:
    """Draw the mean over the seeds of each model."""
    figure = Figure(figsize=(7.2, 3.8), dpi=120, layout="tight")
    axes = figure.add_subplot(xlabel="the input was turned by (degrees)", ylabel="accuracy, %", xlim=(-180, 180))
    angles = list(range(-180, 181, STEP_DEG))
    for name, runs in curves.items():
        means = [mean(run[degrees // STEP_DEG % len(run)] for run in runs) for degrees in angles]
        axes.plot(angles, means, "o-", markersize=3, label=name)
    axes.set_xticks(range(-180, 181, 45))
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title("MNIST, trained on upright digits alone", fontsize=10)
    figure.savefig(path)


def main() -> None:
    """Measure, draw and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, default=Path("data"), help="the folder of MNIST")
    options.add_argument("--folder", type=Path, default=Path("outputs/accuracy"), help="of accuracy.py")
    options.add_argument("--png", type=Path)
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    digits = mnist(args.root, 0, True).test
    assert isinstance(digits, ImageSet)
    curves: dict[str, list[list[float]]] = {}
    rows = []
    for name in EXPERIMENTS[TABLE][1]:
        checkpoints = [best(folder) for folder in sorted(place(args.folder, (TABLE, name, 1)).parent.glob("*"))]
        if not checkpoints:
            continue
        runs, follows = zip(*(by_angle(checkpoint, digits) for checkpoint in checkpoints), strict=True)
        curves[name] = list(runs)
        rows.append(
            {
                "model": name,
                "accuracy over all angles, %": spread([mean(run) for run in runs]),
                "where it differs most from that, %": ", ".join(f"{furthest(run):.2f}" for run in runs),
                "follows the turn, degrees off: median; p95; worst; beyond 90, %": ", ".join(
                    "{:.1f}; {:.1f}; {:.0f}; {:.2f}".format(
                        *np.quantile(off.numpy(), (0.5, 0.95, 1)), 100 * (off > 90).float().mean()
                    )
                    for off in follows
                    if off is not None
                ),
            }
        )
    if not rows:
        train = f"python benchmarks/accuracy.py --only {TABLE} --runs NEW.jsonl"
        raise SystemExit(f"{args.folder}/{TABLE} holds no run: {train}")
    facts = environment("cpu")
    print(", ".join(f"{name}: {value}" for name, value in facts.items()), markdown(rows), sep="\n\n")
    if args.png is not None:
        draw(curves, args.png)
    if args.json is not None:
        args.json.write_text(json.dumps({"environment": facts, "rows": rows, "curves": curves}, indent=2) + "\n")


if __name__ == "__main__":
    with one_line_errors():
        main()
