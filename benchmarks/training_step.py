"""A training step is at least twice as fast as a step of the same network written as in the usual PyTorch tutorial.

    python benchmarks/training_step.py [--root data] [--device cuda] [--batch 4096] [--json PATH]

Two minutes on two cores. Needs MNIST. Both ways train the rotation-only transformer with a regressing encoder on
rotated MNIST in batches of 128, in a plain loop, with the same function, losses, optimizer and clipping. (128 images do
not keep a GPU busy.) What differs:

                stnrot                                            tutorial
    images      bytes in memory, a whole batch rotated at once    PIL, each rotated by torchvision
    sampler     stnrot.geometry.rotate                            F.affine_grid + F.grid_sample
    numbers     bf16 autocast where the hardware has it           float32
    layout      channels last                                     channels first
    pooling     in the kernel of the convolution before it        a layer of its own

Prints the images a second of both. A speed-up is the time of the tutorial divided by that of stnrot: the median of the
rounds' ratios. Quote the smallest speed-up of the rows for different numbers of worker processes. On a busy machine set
OMP_NUM_THREADS=1; otherwise the time that threads wait for one another is measured.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.transforms import InterpolationMode, RandomRotation

from harness.environment import environment
from harness.plain_loop import built, composed, fed, rotated_mnist, stepper, training_batches
from harness.report import Options, Table, at_least_one, report
from harness.timing import alternate, speedup
from stnrot.data.batch import Batch
from stnrot.geometry import rotation_theta
from stnrot.models.conv_regressor import PooledConv2d
from stnrot.models.outputs import Prediction
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision
from stnrot.tasks.register import Register


class TutorialSTN(RotSTN):
    """`RotSTN` that samples as the documentation of torch does."""

    def forward(self, image: Tensor, reference: Tensor | None) -> Prediction:
        """Align the image with the learned reference and classify it."""
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
    """Replace the layers of a task by their usual form, with the same weights and the same function."""
    for module in task.modules():
        if isinstance(module, PooledConv2d):
            module.__class__ = ConvThenPool
        elif isinstance(module, (nn.ELU, nn.ReLU)):
            module.inplace = False
    return task


class RotatedDigits(Dataset[tuple[Tensor, float, int]]):
    """MNIST, one image at a time, each rotated by a random angle."""

    def __init__(self, root: Path) -> None:
        self.digits = MNIST(str(root), train=True)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, float, int]:
        image, label = self.digits[index]
        degrees = RandomRotation.get_params([-180.0, 180.0])
        rotated = TF.rotate(image, degrees, InterpolationMode.BILINEAR)
        return TF.to_tensor(rotated), -math.radians(degrees), label


def tutorial_batches(root: Path, batch: int, workers: int, device: str) -> Iterator[Batch]:
    """Yield batches endlessly from a plain `DataLoader`."""
    loader = DataLoader(
        RotatedDigits(root),
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


def check(ours: Register, tutorial: Register, batch: Batch) -> None:
    """Raise unless both compute the same function, compared in float64."""
    image = batch.image.double()
    first, second = (copy.deepcopy(task.model).double().eval()(image, None) for task in (ours, tutorial))
    torch.testing.assert_close(first.orientation.angle, second.orientation.angle)
    torch.testing.assert_close(first.log_probability, second.log_probability)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check that both ways train the same network, time them and report."""
    options = Options(__file__, __doc__, rounds=1, batch=8, workers=1)
    options.add_device()
    options.add_rounds(10)
    options.add_root()
    options.add_argument("--batch", type=at_least_one, default=128)
    options.add_argument("--workers", type=at_least_one, default=2, help="of the tutorial's loader, timed beside 0")
    args = options.read(arguments)
    device: str = args.device
    precision = auto_precision(device)

    torch.manual_seed(0)
    data, cfg = composed(*rotated_mnist(args.root, args.batch), "model/encoder=cnn", "~model/augment")
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
    lead_in = 1 + 2 * args.workers  # uses up the batches that workers fetched while other methods were timed
    times = alternate(methods, args.rounds, lead_in, calls=2 if args.quick else 10, device=device)
    pairs = {
        "images and network, tutorial with 0 workers": ("stnrot", "0 workers"),
        f"images and network, tutorial with {many}": ("stnrot", many),
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
    facts = environment(device) | {"stnrot's precision": precision, "batch": args.batch}
    report(args, facts, Table("a training step, stnrot beside the tutorial", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
