"""At 224 pixels `Upright` adds at most 25 % to the time of a ResNet-18 and is 5 times as fast as averaging 8 turns.

    python benchmarks/upright_speed.py [--device cuda] [--batch 4] [--json PATH]

Two minutes on one core. The networks are not trained. Prints three tables:

- Inference with a ResNet-18 at 224 x 224 pixels: alone, behind `Upright` with one hypothesis, and averaged over 8 turns
  of the image. The ratios are medians of the rounds' ratios.
- The parts of a training step at that size, where the ResNet-18 is trained along, for `Upright.loss` and for train.py
  with one hypothesis. The step of the network alone is that on images of the same size. What is left of the whole step,
  without the random views of `Upright.loss`, is the share of sampler and encoder.
- Images a second at 32 x 32 pixels in colour, in batches of 128: training and inference of `model=rot_stn` with the
  encoder p4 and with the default encoder, each with the default classifier and three hypotheses or one, and of the
  encoder that `experiment=upright_photos` trains. A model that is not trained looks at all its hypotheses; where one is
  certain, a trained one looks at that alone. A training step includes its images.

On a CPU the time is that of all threads of the process, so other processes on the machine change it little. The rates
are then those of one core.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from harness.environment import environment
from harness.plain_loop import built, composed, fed, stepper, training_batches
from harness.report import Options, Row, Table, at_least_one, report
from harness.timing import Times, alternate, speedup
from harness.two_commits import photographs
from stnrot import Upright
from stnrot.geometry import RandomViews, rotate
from stnrot.runs.command_line import one_line_errors
from stnrot.tasks.register import Register

SIDE, SMALL = 224, 32  # pixels
TURNS = 8
CLASSES = 10
BATCH = 128  # of images of 32 x 32 pixels


def averaged(network: nn.Module, image: Tensor) -> Tensor:
    """Return the mean probabilities of a network for the image at equally spaced angles."""
    angle = torch.arange(TURNS, device=image.device) * (2 * math.pi / TURNS)
    turned = rotate(image, angle.expand(len(image), TURNS), "bicubic").flatten(0, 1)
    return network(turned).softmax(1).unflatten(0, (-1, TURNS)).mean(1)


def inferred(call: Callable[[], object]) -> Callable[[], None]:
    """Return a call that records nothing for a gradient."""

    def run() -> None:
        with torch.inference_mode():
            call()

    return run


def timed(methods: dict[str, Callable[[], object]], rounds: int, device: str) -> Times:
    """Time methods in alternation; on a CPU by the time of the process."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    return alternate(methods, rounds, lead_in=0, calls=1, device=device, clock=clock)


def inference(batch: int, side: int, rounds: int, device: str) -> list[Row]:
    """Compare the ResNet-18 alone, behind `Upright` and averaged over turns."""
    network = resnet18().to(device).eval()
    model = Upright(network).to(device).eval()
    image = torch.rand(batch, 3, side, side, device=device)
    model(image)
    methods: dict[str, Callable[[], object]] = {
        "ResNet-18 alone": inferred(partial(network, image)),
        "Upright, K = 1": inferred(partial(model, image)),
        f"averaged over {TURNS} turns": inferred(partial(averaged, network, image)),
    }
    times = timed(methods, rounds, device)
    alone, _, turns = methods
    return [
        {
            "inference": name,
            "ms an image": 1000 * median(each) / batch,
            "time over that of ResNet-18": speedup(times, alone, name),
            "speed-up over 8 turns": speedup(times, name, turns),
        }
        for name, each in times.items()
    ]


def step_of(loss: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    """Return a call that takes one training step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def training(folder: Path, batch: int, side: int, rounds: int, device: str) -> list[Row]:
    """Compare the whole training step with that of the ResNet-18 alone."""
    image, label = torch.rand(batch, 3, side, side, device=device), torch.arange(batch, device=device) % CLASSES
    network, alone = (resnet18(num_classes=CLASSES).to(device).train() for _ in range(2))
    model = Upright(network, frozen=False).to(device).train()
    views, numbers = RandomViews(mirror=0.5), torch.randn(batch, RandomViews.count, device=device)
    angle = torch.rand(batch, device=device) * (2 * math.pi)

    options = ["model=rot_stn", "model/encoder=p4", "model/classifier=torchvision", "model.classifier.pretrained=false"]
    options += ["model.hypotheses=1", "data=image_folder", f"data.root={folder / 'train'}", f"data.batch_size={batch}"]
    data, cfg = composed(*options, f"data.source.image_size=[{side},{side}]")
    task, turned = built(cfg, device).train(), next(training_batches(data, device))
    task_step = stepper(task, task.configure_optimizers(), device, False, cfg.trainer.gradient_clip_val)
    methods: dict[str, Callable[[], object]] = {
        "whole": step_of(lambda: model.loss(image, label), model),
        "network": step_of(lambda: F.cross_entropy(alone(image), label), alone),
        "views": lambda: views(image, angle, numbers, "bicubic"),
        "task": lambda: task_step(turned),
    }
    times = timed(methods, rounds, device)
    rows: list[Row] = []
    none = [0.0] * rounds  # train.py makes the views with the data
    for name, whole, viewed in (
        ("Upright.loss with labels", times["whole"], times["views"]),
        ("train.py, model=rot_stn", times["task"], none),
    ):
        shares = [(a / w, b / w, 1 - (a + b) / w) for a, b, w in zip(times["network"], viewed, whole, strict=True)]
        own, seen, rest = (100 * median(share) for share in zip(*shares, strict=True))
        row: Row = {"training step": name, "ms an image": 1000 * median(whole) / batch, "ResNet-18, %": own}
        rows.append({**row, "random views, %": seen, "sampler and encoder, %": rest})
    return rows


def read(task: Register, image: Tensor) -> None:
    """Run the model of a task in evaluation."""
    task.eval()
    with torch.inference_mode():
        task.model(image, None)
    task.train()


def small(folder: Path, batch: int, rounds: int, device: str) -> list[Row]:
    """Return the rates at 32 x 32 pixels in colour."""
    classify = ["model=rot_stn", "data=image_folder", f"data.root={folder / 'train'}"]
    classify += [f"data.source.image_size=[{SMALL},{SMALL}]"]
    kinds = {
        "encoder=p4": [*classify, "model/encoder=p4"],
        "encoder=p4, model.hypotheses=1": [*classify, "model/encoder=p4", "model.hypotheses=1"],
        "default encoder": classify,
        "default encoder, model.hypotheses=1": [*classify, "model.hypotheses=1"],
        "experiment=upright_photos": ["experiment=upright_photos", f"data.root={folder}"],
    }
    methods: dict[str, Callable[[], object]] = {}
    parameters = {}
    for name, overrides in kinds.items():
        data, cfg = composed(*overrides, f"data.batch_size={batch}")
        task = built(cfg, device).train()
        step = stepper(task, task.configure_optimizers(), device, False, cfg.trainer.gradient_clip_val)
        batches = training_batches(data, device)
        image = next(batches).image
        step(next(batches))  # the running statistics of the batch norms

        methods[f"{name}: training"] = fed(step, batches)
        methods[f"{name}: inference"] = partial(read, task, image)
        parameters[name] = sum(p.numel() for p in task.parameters())
    times = timed(methods, rounds, device)
    return [
        {"32 x 32 in colour": name, "parameters": f"{parameters[name]:,}"}
        | {f"{what}, images/s": batch / median(times[f"{name}: {what}"]) for what in ("training", "inference")}
        for name in kinds
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Time and report."""
    options = Options(__file__, __doc__, rounds=1, batch=2, side=32)
    options.add_device()
    options.add_rounds(5)
    options.add_argument("--batch", type=at_least_one, default=4, help="images of 224 x 224 pixels")
    options.add_argument("--side", type=at_least_one, default=SIDE, help="pixels of the large images")
    args = options.read(arguments)
    torch.manual_seed(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "test"):
            photographs(folder / split)
        large = args.side, args.rounds, args.device
        rate = "rates at 32 pixels in colour" + (", of one core" if args.device == "cpu" else "")
        tables = [
            Table(f"inference, {args.batch} images of {args.side} pixels", inference(args.batch, *large)),
            Table(f"training step, {args.batch} images of {args.side} pixels", training(folder, args.batch, *large)),
            Table(rate, small(folder, 8 if args.quick else BATCH, args.rounds, args.device)),
        ]
    report(args, environment(args.device), *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
