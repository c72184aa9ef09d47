"""On textures `Upright` is not behind its network trained with turns as often, but behind it trained as long.

    python benchmarks/textures.py [--seeds 5] [--steps 1500] [--json PATH]

Forty core-minutes. Needs scikit-image (the extra `classical`). Nothing in these images is upright: patches of
32 x 32 pixels from nine pictures that scikit-image ships, each a class, with noise, at any angle. Training and test
patches come from different regions of the pictures. All methods train the same network, see only the inscribed disc,
and rotate the training patches at random. Prints the accuracy for 50 and for 500 patches of each class, as mean and
deviation over the seeds, and how far `Upright` is ahead, seed by seed. The rows are:

- The network, with as many training steps as `Upright`.
- The network, with as many core-seconds as `Upright`, so with more steps.
- The same network, tested by averaging its probabilities over 8 turns.
- `Upright` around the network, trained by `loss(images, labels, upright=False)` with three hypotheses.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.environment import environment
from harness.report import Options, Row, Table, at_least_one, report
from harness.texture_patches import NAMES, patches
from stnrot import Upright
from stnrot.geometry import inscribed_disc, rotate
from stnrot.models.classifiers.conv import ConvClassifier
from stnrot.models.encoders.p4 import P4Encoder
from stnrot.runs.command_line import one_line_errors

COUNTS = (50, 500)  # training patches of a class
BATCH, LEARNING_RATE, WEIGHT_DECAY = 32, 3e-3, 0.05
TURNS = 8
STEPS, LONG = "turned, as many steps", "turned, as many core-seconds"
AVERAGED, UPRIGHT = f"the same, averaged over {TURNS} turns", "Upright, K = 3"


class Disc(nn.Module):
    """Blacken everything outside the inscribed disc."""

    def forward(self, image: Tensor) -> Tensor:
        """Blacken the corners."""
        return image * inscribed_disc(image.shape[-2:], image.device)


def network() -> nn.Module:
    """Return the network of all methods, not yet trained."""
    return nn.Sequential(Disc(), ConvClassifier(1, len(NAMES), width=8))


def turned_loss(model: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    """Return the cross-entropy at random angles."""
    angle = (2 * torch.rand(len(image)) - 1) * math.pi
    return F.cross_entropy(model(rotate(image, angle, "bicubic")), label)


def train(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, steps: int
) -> float:
    """Train a model, and return the core-seconds that it took."""
    start = time.process_time()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat((order, torch.randperm(len(images))))
        chosen, order = order[:BATCH], order[BATCH:]
        loss(images[chosen], labels[chosen]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    return time.process_time() - start


def averaged(model: nn.Module, image: Tensor) -> Tensor:
    """Return the mean probabilities of a network for the image at equally spaced angles."""
    angle = torch.arange(TURNS) * (2 * math.pi / TURNS)
    turned = rotate(image, angle.expand(len(image), TURNS), "bicubic").flatten(0, 1)
    return model(turned).softmax(1).unflatten(0, (-1, TURNS)).mean(1)


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Return the accuracy in per cent."""
    with torch.inference_mode():
        found = torch.cat([model(batch).argmax(1) for batch in images.split(256)])
    return 100 * (found == labels).float().mean().item()


def compared(count: int, seed: int, steps: int, tested: tuple[Tensor, Tensor]) -> dict[str, tuple[float, float]]:
    """Return accuracy and core-seconds of all methods, trained on `count` patches of each class."""
    images, labels = patches("train", count, seed)
    torch.manual_seed(seed)
    encoder = P4Encoder(1, width=4, side=32, angles=64, dropout=0.1, mirrored=False)
    model, once, longer = Upright(network(), encoder, hypotheses=3, frozen=False), network(), network()
    seconds = {UPRIGHT: train(model, partial(model.loss, upright=False), images, labels, steps)}
    seconds[STEPS] = train(once, partial(turned_loss, once), images, labels, steps)
    more = max(steps, round(steps * seconds[UPRIGHT] / seconds[STEPS]))
    seconds[AVERAGED] = seconds[LONG] = train(longer, partial(turned_loss, longer), images, labels, more)
    methods: dict[str, Callable[[Tensor], Tensor]]
    methods = {STEPS: once, LONG: longer, AVERAGED: partial(averaged, longer), UPRIGHT: model}
    return {name: (accuracy(method, *tested), seconds[name]) for name, method in methods.items()}


def spread(values: Sequence[float]) -> str:
    """Write mean and deviation."""
    return f"{mean(values):.1f} +- {stdev(values) if len(values) > 1 else 0:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and report."""
    options = Options(__file__, __doc__, seeds=1, steps=2, tests=2)
    options.add_argument("--seeds", type=at_least_one, default=5)
    options.add_argument("--steps", type=at_least_one, default=1500, help="of training Upright")
    options.add_argument("--tests", type=at_least_one, default=200, help="test patches of each class")
    args = options.read(arguments)
    tested = patches("test", args.tests, seed=0)
    tables = []
    for count in COUNTS:
        found = [compared(count, seed, args.steps, tested) for seed in range(args.seeds)]
        rows: list[Row] = [
            {"method": name, "accuracy, %": spread([each[name][0] for each in found])}
            | {"Upright is ahead by, points": spread([each[UPRIGHT][0] - each[name][0] for each in found])}
            | {"training, core-seconds": spread([each[name][1] for each in found])}
            for name in found[0]
        ]
        tables.append(Table(f"{count} patches of each class", rows))
    facts = environment("cpu") | {"seeds": args.seeds, "steps": args.steps, "test patches": len(tested[0])}
    report(args, facts, *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
