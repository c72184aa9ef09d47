"""A training step of this project is faster than one of the same network in the usual tutorial's way.

    python benchmarks/train.py [--root data] [--device cuda] [--json PATH]

takes about five minutes on two cores. Both ways train the rotation-only transformer with a regressing encoder on
turned MNIST in batches of 128, in a plain loop, with the same function, losses, optimizer and clipping. What differs:

                stnrot                                          tutorial
    pictures    bytes in memory, a whole batch turned at once   PIL, each turned by torchvision
    sampler     stnrot.geometry.rotate                          F.affine_grid + F.grid_sample
    numbers     bf16 autocast where the hardware has it         float32
    layout      channels last                                   channels first
    pooling     in the kernel of the convolution before it      a layer of its own

The second table is of the default model, whose polar encoder no tutorial has, after so many steps of training that
its hypotheses have their weights: it looks at fewer of them where one is certain.

The speed-up is the tutorial's time over that of stnrot, the median of ratios within a round. Of the rows
for different numbers of worker processes, the smaller speed-up is the one to quote. On a busy machine set
OMP_NUM_THREADS=1: else it is the threads' waiting for one another that is timed.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from hydra.utils import instantiate
from plain_loop import built, composed, stepper, training_batches  # type: ignore[import-not-found]
from timing import environment, in_turn, markdown, parser, report, speedup  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.transforms import InterpolationMode, RandomRotation

from stnrot.data.batch import Batch
from stnrot.geometry import rotation_theta
from stnrot.hardware import auto_precision
from stnrot.models.conv_regressor import PooledConv2d
from stnrot.models.records import Prediction
from stnrot.models.rot_stn import RotSTN
from stnrot.tasks.register import Register

BATCH = 128
SETTLED = 300


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


def tutorial_batches(root: Path, workers: int, device: str) -> Iterator[Batch]:
    """Yield batches without end from a plain `DataLoader`."""
    loader = DataLoader(
        TurnedDigits(root),
        BATCH,
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
    options.add_argument("--workers", type=int, default=2, help="of the tutorial's loader, timed beside 0")
    args = options.parse_args()
    device: str = args.device
    precision = auto_precision(device)

    torch.manual_seed(0)
    data, cfg = composed(*turned_mnist(args.root), "model/encoder=cnn", "~model/augment")
    ours: Register = built(cfg, device)
    tutorial: Register = instantiate(cfg.task, model=instantiate(cfg.model, _target_=TutorialSTN)).to(device)
    tutorial = as_in_a_tutorial(tutorial)
    step = stepper(ours, ours.configure_optimizers(), device, precision == "bf16-mixed")
    tutorial_step = stepper(tutorial, tutorial.configure_optimizers(), device, False)

    batches = training_batches(data, device)
    batch = next(batches)
    for _ in range(20):  # away from the start, where every angle is zero
        step(next(batches))
    tutorial.load_state_dict(ours.state_dict())
    check(ours, tutorial, batch)

    many = f"{args.workers} workers"
    methods = {
        "stnrot": fed(step, batches),
        "0 workers": fed(tutorial_step, tutorial_batches(args.root, 0, device)),
        many: fed(tutorial_step, tutorial_batches(args.root, args.workers, device)),
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
            "stnrot, images/s": BATCH / median(times[first]),
            "tutorial, images/s": BATCH / median(times[second]),
            "speed-up": speedup(times, first, second),
        }
        for name, (first, second) in pairs.items()
    ]
    report(environment(device) | {"stnrot's precision": precision}, rows, args.json)
    print("\n" + markdown(default_model(args.root, device, precision == "bf16-mixed", args.rounds)))


def turned_mnist(root: Path) -> list[str]:
    """Return the overrides that choose the pictures."""
    return ["data=rotated_mnist", f"data.root={root}", f"data.batch_size={BATCH}"]


def default_model(root: Path, device: str, bf16: bool, rounds: int) -> list[dict[str, str | float]]:
    """Train the default model for a while; time training and inference, the encoder apart."""
    data, cfg = composed(*turned_mnist(root))
    task = built(cfg, device)
    step, batches = stepper(task, task.configure_optimizers(), device, bf16), training_batches(data, device)
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
    methods = {
        "training, pictures and network": (fed(step, batches), BATCH),
        "inference": (infer(lambda: net(images, None)), len(images)),
        "inference, encoder alone": (infer(lambda: net.orient(images, None)), len(images)),
    }
    times = in_turn({name: call for name, (call, _) in methods.items()}, rounds, lead_in=1, calls=5, device=device)
    parameters = sum(p.numel() for p in task.parameters())
    return [
        {"default model": name, "images/s": size / median(times[name]), "parameters": f"{parameters:,}"}
        for name, (_, size) in methods.items()
    ]


if __name__ == "__main__":
    main()
