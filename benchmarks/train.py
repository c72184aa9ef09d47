"""How fast training is: a step beside the same network's in the usual tutorial's way, and the default model's.

    python benchmarks/train.py [--root data] [--device cuda] [--batch 4096] [--json PATH]

takes about five minutes on two cores. In the first table both ways train the rotation-only transformer with a
regressing encoder on turned MNIST in batches of 128, in a plain loop, with the same function, losses, optimizer and
clipping. (A GPU is not busy with 128.) What differs:

                stnrot                                          tutorial
    pictures    bytes in memory, a whole batch turned at once   PIL, each turned by torchvision
    sampler     stnrot.geometry.rotate                          F.affine_grid + F.grid_sample
    numbers     bf16 autocast where the hardware has it         float32
    layout      channels last                                   channels first
    pooling     in the kernel of the convolution before it      a layer of its own

The second table is of the default model, whose polar encoder no tutorial has, after so many steps of training that
its hypotheses have their weights: it looks at fewer of them where one is certain. Its last row is of train.py: from the
end of an epoch to that of the next, with validation, pictures and a checkpoint (on a GPU ten times the set an epoch).

The speed-up is the tutorial's time over that of stnrot, the median of ratios within a round. Of the rows
for different numbers of worker processes, the smaller speed-up is the one to quote. On a busy machine set
OMP_NUM_THREADS=1: else it is the threads' waiting for one another that is timed.
"""

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from hydra.utils import instantiate
from plain_loop import CONFIGS, built, composed, stepper, training_batches  # type: ignore[import-not-found]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timing import at_least_one, environment, in_turn, markdown, parser, speedup  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.transforms import InterpolationMode, RandomRotation

from stnrot.data.batch import Batch
from stnrot.geometry import rotation_theta
from stnrot.models.conv_regressor import PooledConv2d
from stnrot.models.outputs import Prediction
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision
from stnrot.tasks.register import Register

SETTLED = 300
REPEATS, EPOCHS = 10, 3


class TutorialSTN(RotSTN):
    """`RotSTN`, sampling as the documentation of torch does."""

    def forward(self, image: Tensor, reference: Tensor | None) -> Prediction:
        """Line the image up with the learned reference and classify it."""
        assert self.reference is not None
        assert self.classifier is not None
        canonical = self.reference.expand(len(image), -1, -1, -1)
        orientation = self.encoder(image, canonical, 1)
        theta = rotation_theta(orientation.angle[:, 0], *image.shape[-2:])
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        aligned = F.grid_sample(image, grid, align_corners=False)
        return Prediction(orientation, aligned, canonical, self.classifier(aligned).log_softmax(-1))


class ConvThenPool(PooledConv2d):
    """The convolution and the pooling one after the other."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve, then average."""
        return F.avg_pool2d(F.conv2d(input, self.weight, padding=1), 2)


def as_in_a_tutorial(task: Register) -> Register:
    """Give a task's layers back the form that everybody writes; the weights and the function stay."""
    for module in task.modules():
        if isinstance(module, PooledConv2d):
            module.__class__ = ConvThenPool
        elif isinstance(module, (nn.ELU, nn.ReLU)):
            module.inplace = False
    return task


class TurnedDigits(Dataset[tuple[Tensor, float, int]]):
    """MNIST, one picture at a time, each turned by a random angle."""

    def __init__(self, root: Path) -> None:
        self.digits = MNIST(str(root), train=True)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, float, int]:
        picture, label = self.digits[index]
        turn = RandomRotation.get_params([-180.0, 180.0])
        turned = TF.rotate(picture, turn, InterpolationMode.BILINEAR)
        return TF.to_tensor(turned), -math.radians(turn), label


def tutorial_batches(root: Path, batch: int, workers: int, device: str) -> Iterator[Batch]:
    """Yield batches without end from a plain `DataLoader`."""
    loader = DataLoader(
        TurnedDigits(root),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
    while True:
        for image, angle, label in loader:
            image, angle, label = (t.to(device, non_blocking=True) for t in (image, angle.float(), label))
            yield Batch(torch.arange(len(image)), image, None, angle, label)


def fed(step: Callable[[Batch], None], batches: Iterator[Batch]) -> Callable[[], None]:
    """Return the function that takes one step on the next batch."""
    return lambda: step(next(batches))


def check(ours: Register, tutorial: Register, batch: Batch) -> None:
    """Raise unless both are the same function, which they show in float64."""
    image = batch.image.double()
    first, second = (copy.deepcopy(task.model).double().eval()(image, None) for task in (ours, tutorial))
    torch.testing.assert_close(first.orientation.angle, second.orientation.angle)
    torch.testing.assert_close(first.log_probability, second.log_probability)


def main() -> None:
    """Check that both ways train the same network, time them and report."""
    options = parser(__doc__, rounds=10)
    options.add_argument("--root", type=Path, default=Path("data"), help="the folder that holds MNIST/raw")
    options.add_argument("--batch", type=at_least_one, default=128)
    options.add_argument("--workers", type=int, default=2, help="of the tutorial's loader, timed beside 0")
    args = options.parse_args()
    device: str = args.device
    precision = auto_precision(device)

    torch.manual_seed(0)
    data, cfg = composed(*turned_mnist(args.root, args.batch), "model/encoder=cnn", "~model/augment")
    ours: Register = built(cfg, device)
    tutorial: Register = instantiate(cfg.task, model=instantiate(cfg.model, _target_=TutorialSTN)).to(device)
    tutorial = as_in_a_tutorial(tutorial)
    clip = cfg.trainer.gradient_clip_val
    step = stepper(ours, ours.configure_optimizers(), device, precision == "bf16-mixed", clip)
    tutorial_step = stepper(tutorial, tutorial.configure_optimizers(), device, False, clip)

    batches = training_batches(data, device)
    batch = next(batches)
    for _ in range(20):  # away from the start, where every angle is zero
        step(next(batches))
    tutorial.load_state_dict(ours.state_dict())
    check(ours, tutorial, batch)

    many = f"{args.workers} workers"
    methods = {
        "stnrot": fed(step, batches),
        "0 workers": fed(tutorial_step, tutorial_batches(args.root, args.batch, 0, device)),
        many: fed(tutorial_step, tutorial_batches(args.root, args.batch, args.workers, device)),
        "stnrot, network": fed(step, itertools.repeat(batch)),
        "tutorial, network": fed(tutorial_step, itertools.repeat(batch)),
    }
    lead_in = 1 + 2 * args.workers  # uses up what the workers fetched while others had their turn
    times = in_turn(methods, args.rounds, lead_in, calls=10, device=device)
    pairs = {
        "pictures and network, tutorial with 0 workers": ("stnrot", "0 workers"),
        f"pictures and network, tutorial with {many}": ("stnrot", many),
        "network alone": ("stnrot, network", "tutorial, network"),
    }
    rows = [
        {
            "step": name,
            "stnrot, images/s": args.batch / median(times[first]),
            "tutorial, images/s": args.batch / median(times[second]),
            "speed-up": speedup(times, first, second),
        }
        for name, (first, second) in pairs.items()
    ]
    bf16 = precision == "bf16-mixed"
    tables = {
        "tutorial": rows,
        "default model": [
            *default_model(args.root, args.batch, device, bf16, args.rounds),
            whole_job(args.root, args.batch, device),
        ],
    }
    facts = environment(device) | {"stnrot's precision": precision}
    print(", ".join(f"{name}: {value}" for name, value in facts.items()), *map(markdown, tables.values()), sep="\n\n")
    if args.json is not None:
        args.json.write_text(json.dumps({"environment": facts} | tables, indent=2) + "\n")


def turned_mnist(root: Path, batch: int) -> list[str]:
    """Return the overrides that choose the pictures."""
    return ["data=rotated_mnist", f"data.root={root.absolute()}", f"data.batch_size={batch}"]


def default_model(root: Path, batch: int, device: str, bf16: bool, rounds: int) -> list[dict[str, str | float]]:
    """Train the default model for a while; time training and inference, the encoder apart."""
    data, cfg = composed(*turned_mnist(root, batch))
    task = built(cfg, device)
    step = stepper(task, task.configure_optimizers(), device, bf16, cfg.trainer.gradient_clip_val)
    batches = training_batches(data, device)
    for _ in range(SETTLED):
        step(next(batches))
    images = torch.cat([next(batches).image for _ in range(4)])

    def infer(model: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            task.eval()
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
                model()
            task.train()

        return run

    net: RotSTN = task.model

    def with_one(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            net.hypotheses = 1
            call()
            net.hypotheses = cfg.model.hypotheses

        return run

    train, classify = fed(step, batches), infer(lambda: net(images, None))
    methods = {
        "training, pictures and network": (train, batch),
        "the same, model.hypotheses=1": (with_one(train), batch),
        "inference": (classify, len(images)),
        "inference, model.hypotheses=1": (with_one(classify), len(images)),
        "inference, encoder alone": (infer(lambda: net.orient(images, None)), len(images)),
    }
    times = in_turn({name: call for name, (call, _) in methods.items()}, rounds, lead_in=1, calls=5, device=device)
    parameters = sum(p.numel() for p in task.parameters())
    return [
        {"default model": name, "images/s": size / median(times[name]), "parameters": f"{parameters:,}"}
        for name, (_, size) in methods.items()
    ]


def whole_job(root: Path, batch: int, device: str) -> dict[str, str | float]:
    """Run train.py and return how fast it went from one epoch to the next."""
    trainer = {"cpu": "cpu", "cuda": "gpu"}[device]
    repeats = REPEATS if device == "cuda" else 1
    with TemporaryDirectory() as folder:
        overrides = [*turned_mnist(root, batch), f"trainer={trainer}", f"trainer.max_epochs={EPOCHS}"]
        overrides += [f"data.repeats={repeats}", f"hydra.run.dir={folder}", "callbacks.progress=null"]
        command = [sys.executable, str(CONFIGS.parent / "train.py"), *overrides]
        subprocess.run(command, check=True, stdout=sys.stderr)  # what is printed here is the tables
        events = EventAccumulator(str(Path(folder) / "tensorboard")).Reload()
        losses = events.Scalars("train/loss")
    steps = losses[-1].step - losses[0].step
    return {
        "default model": f"train.py, {steps * batch:,} images",
        "images/s": steps * batch / (losses[-1].wall_time - losses[0].wall_time),
        "parameters": "",
    }


if __name__ == "__main__":
    with one_line_errors():
        main()
