"""After equal minutes of training on rotated MNIST, stnrot has less than half the test error of escnn.

    pip install escnn "numpy<2"        # compiles py3nj, for which it needs gfortran
    python benchmarks/escnn_curve.py --root data [--minutes 2 8 30] [--png PATH] [--json PATH]

45 minutes on two cores: the sum of --minutes, and the tests. Needs MNIST and escnn; without escnn its rows are left
out. Trains each network for so many minutes on the 12,000 images of `experiment=mnist_rot` in a plain loop with AdamW.
The one cycle of the learning rate is a function of time, not of steps: a slower network takes fewer steps. Then tests
it, once, on all 50,000 test images. The networks are trained at the same time, each on an equal share of the cores, so
that other load affects both alike. Nothing else should run meanwhile. Prints the test error, the rate of training and
the number of parameters.

The steerable network (M. Weiler and G. Cesa, General E(2)-Equivariant Steerable CNNs, 2019) commutes with rotations by
multiples of 45 degrees. Its training images are rotated further, by any angle. `--widths` sets its size for each time,
in fields of the first layer.
"""

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from harness.accuracy_tables import ONLY_ROTATED
from harness.environment import environment
from harness.figures import error_curve
from harness.plain_loop import built, composed, stepper, training_batches
from harness.report import Options, Table, new_file, report
from stnrot.data.image_data import ImageData
from stnrot.data.rng import Split
from stnrot.models.cnn import CNN
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision
from stnrot.tasks.register import Register

try:
    from escnn import gspaces  # type: ignore[import-not-found]
    from escnn import nn as steerable
except ImportError:
    steerable = None

SIDE = 29  # odd, so that strides keep the centre
WARM_UP = 0.2
EVALUATED = 500


class SteerableCNN(nn.Module):
    """A CNN of regular fields of C8, pooled over the group and the image, with one linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        group = gspaces.rot2dOnR2(8)
        fields = self.given = steerable.FieldType(group, [group.trivial_repr])
        layers: list[nn.Module] = [steerable.MaskModule(fields, SIDE, margin=1)]
        for multiple, kernel, pools in ((1, 5, True), (2, 5, False), (2, 5, True), (4, 5, False)):
            wide = steerable.FieldType(group, multiple * width * [group.regular_repr])
            layers += [
                steerable.R2Conv(fields, wide, kernel, padding=kernel // 2, bias=False),
                steerable.InnerBatchNorm(wide),
                steerable.ReLU(wide, inplace=True),
            ]
            layers += [steerable.PointwiseAvgPoolAntialiased(wide, sigma=0.66, stride=2)] if pools else []
            fields = wide
        wide = steerable.FieldType(group, 4 * width * [group.regular_repr])
        layers += [  # covers nearly all of the 8 x 8 positions, and so the relative positions of a digit's parts
            steerable.R2Conv(fields, wide, 7, bias=False),
            steerable.InnerBatchNorm(wide),
            steerable.ReLU(wide, inplace=True),
        ]
        self.stack = steerable.SequentialModule(*layers, steerable.GroupPooling(wide))
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        odd = nn.functional.pad(image, (0, SIDE - image.shape[-1], 0, SIDE - image.shape[-2]))
        pooled = self.stack(steerable.GeometricTensor(odd, self.given)).tensor.amax((2, 3))
        with torch.autocast(image.device.type, enabled=False):
            return self.linear(pooled.float())


def train(task: Register, batches: Iterator[Any], seconds: float, bf16: bool, clip: float) -> int:
    """Train for that time; return the number of steps."""
    task.train()
    optimizer = task.configure_optimizers()
    step = stepper(task, optimizer, "cpu", bf16, clip)
    peak = optimizer.param_groups[0]["lr"]
    start, steps = time.perf_counter(), 0
    while (done := (time.perf_counter() - start) / seconds) < 1:
        rise = min(1.0, done / WARM_UP)
        fall = max(0.0, (done - WARM_UP) / (1 - WARM_UP))
        for group in optimizer.param_groups:
            group["lr"] = peak * rise * (1 + math.cos(math.pi * fall)) / 2
        step(next(batches))
        steps += 1
    return steps


def error(task: Register, data: ImageData, split: Split, bf16: bool, most: int) -> float:
    """Return the share of wrong classes in percent, of the first `most` images."""
    task.eval()
    wrong = count = 0
    part = data.splits.part(split)
    for raw in data.loader(part, torch.arange(min(most, len(part))).split(EVALUATED)):
        batch = data.view(raw, split)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            wrong += int((task(batch).log_probability.argmax(1) != batch.label).sum())
        count += len(batch.image)
    return 100 * wrong / count


def draw(rows: list[dict[str, Any]], threads: int, path: Path) -> None:
    """Draw error against minutes, both logarithmic."""
    spent = f"minutes of training, {threads} thread{'s' * (threads > 1)} each"
    figure, axes = error_curve(spent, sorted({row["minutes"] for row in rows}))
    for name in dict.fromkeys(row["network"] for row in rows):
        found = [(row["minutes"], row["error, %"]) for row in rows if row["network"] == name]
        axes.plot(*zip(*found, strict=True), "o-", label=name)
    axes.legend()
    figure.savefig(path)


def curve(name: str, threads: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one network for each of the times and test it."""
    torch.set_num_threads(threads)
    bf16 = auto_precision("cpu") == "bf16-mixed"
    ours = name == "stnrot"
    overrides = [] if ours else ["model=cnn", *ONLY_ROTATED]
    overrides += ["experiment=mnist_rot", f"data.root={args.root}", f"data.source.fit_validation={not args.validate}"]
    rows = []
    for minutes, width in zip(args.minutes, args.widths, strict=True):
        torch.manual_seed(1)
        data, cfg = composed(*overrides)
        task = built(cfg, "cpu") if ours else instantiate(cfg.task, model=CNN(SteerableCNN(width, 10)))
        steps = train(task, training_batches(data, "cpu"), 60 * minutes, bf16, cfg.trainer.gradient_clip_val)
        rows.append(
            {
                "network": name,
                "minutes": minutes,
                "error, %": error(task, data, Split.VAL if args.validate else Split.TEST, bf16, args.tested),
                "images/s": steps * cfg.data.batch_size / (60 * minutes),
                "parameters": f"{sum(p.numel() for p in task.parameters()):,}",
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and report."""
    options = Options(__file__, __doc__, minutes=[0.02], widths=[1])
    options.add_root()
    options.add_argument("--minutes", type=float, nargs="+", default=[2, 8, 30])
    options.add_argument("--widths", type=int, nargs="+", default=[4, 4, 8], help="of escnn's network, for each time")
    networks = ["stnrot", "escnn C8"] if steerable else ["stnrot"]
    options.add_argument("--networks", nargs="+", choices=networks, default=networks)
    options.add_argument("--validate", action="store_true", help="hold 2,000 training images out and test on them")
    options.add_argument("--png", type=new_file, metavar="PATH", help="draw the errors to this file")
    args = options.read(arguments)
    if min(args.minutes) <= 0:
        options.error(f"--minutes {args.minutes}: expected more than 0")
    if len(args.widths) != len(args.minutes):
        options.error(f"--widths {args.widths}: expected {len(args.minutes)}, one for each of --minutes")
    args.tested = EVALUATED if args.quick else 50_000
    threads = max(1, torch.get_num_threads() // len(args.networks))
    train_one = partial(curve, threads=threads, args=args)
    if args.quick:  # one after the other, in this process
        curves = [train_one(name) for name in args.networks]
    else:
        with ProcessPoolExecutor(len(args.networks), multiprocessing.get_context("spawn")) as pool:
            curves = list(pool.map(train_one, args.networks))
    rows = sorted((row for each in curves for row in each), key=lambda row: row["minutes"])
    facts = environment("cpu") | {
        "threads": f"{threads} a network",
        "split": "validation" if args.validate else "test",
    }
    report(args, facts, Table("error by minutes of training", rows))
    if args.png is not None:
        draw(rows, threads, args.png)


if __name__ == "__main__":
    with one_line_errors():
        main()
