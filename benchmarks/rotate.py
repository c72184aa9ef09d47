"""`stnrot.geometry.rotate` is faster than `F.affine_grid` + `F.grid_sample` and than kornia, with the same result.

    python benchmarks/rotate.py [--device cuda] [--json PATH]

A minute and a half on one core. Needs kornia (the extra `classical`). Prints the milliseconds of a forward pass and of
forward and backward passes, for MNIST's size and for 224 x 224 pixels. A speed-up is the time of the other method
divided by that of stnrot: the median of the rounds' ratios. On a busy machine set OMP_NUM_THREADS=1; otherwise the time
that threads wait for one another is measured.

On a CPU every method calls `F.grid_sample`. So the time of `grid_sample` alone with a ready grid, forward and
backward, is a lower bound for all of them. The bound of the speed-up that follows is in the column `most over
affine_grid`. A copy of the batch takes far less time: the bound is not the memory, but the gathering of four pixels for
each result.

A second table has the peak of the memory above that of the inputs and the upstream gradient. A third one has the share
of the forward pass that the check of the arguments takes: a check alone follows each rotation, so that its code is as
cold in the processor's cache as in use.
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from statistics import median

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.environment import environment
from harness.memory import peak_mib
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from stnrot.arguments import checked
from stnrot.geometry import inscribed_disc, rotate, rotation_theta, sampling_grid
from stnrot.runs.command_line import one_line_errors

Method = Callable[[Tensor, Tensor], Tensor]
CALLS = {(256, 1, 28, 28): 10, (1, 3, 224, 224): 10, (32, 3, 224, 224): 1}  # by size of a batch: timed calls a round
PASSES = {  # name: whether the angle has a gradient, whether the image has one
    "forward": (False, False),
    "and backward to the angle": (True, False),
    "and backward to angle and image": (True, True),
}


def affine_grid(image: Tensor, angle: Tensor) -> Tensor:
    """Rotate as the documentation of torch does."""
    theta = rotation_theta(angle, *image.shape[-2:])
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def kornia_rotate(image: Tensor, angle: Tensor) -> Tensor:
    """Rotate by kornia, which takes degrees."""
    return kornia.geometry.rotate(image, angle.rad2deg())


@checked
@wraps(rotate)
def only_check(*args: object, **kwargs: object) -> None:
    """Check arguments as `rotate` does, and do nothing else."""


def grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    """Sample at a ready grid, which no method of rotation can do without on a CPU."""
    return F.grid_sample(image, grid, align_corners=False)


METHODS: dict[str, Method] = {"stnrot": rotate, "affine_grid": affine_grid, "kornia": kornia_rotate}


def check(image: Tensor, angle: Tensor) -> None:
    """Raise unless all methods return the same image up to rounding; kornia is compared inside the inscribed disc."""
    ours = rotate(image, angle)
    inside = inscribed_disc(image.shape[-2:], image.device)
    torchs = (ours - affine_grid(image, angle)).abs()
    kornias = (ours - kornia_rotate(image, angle))[..., inside].abs()
    for name, gap, tolerance in (("affine_grid", torchs, 1e-5), ("kornia", kornias, 1e-3)):
        share = (gap > tolerance).float().mean()
        if share > 0.05:
            raise RuntimeError(f"{name} and stnrot differ by over {tolerance} in {share:.0%} of the values")


def run_pass(method: Method, image: Tensor, angle: Tensor, upstream: Tensor, to_angle: bool, to_image: bool) -> None:
    """Rotate; then backpropagate `upstream` to the inputs that need a gradient."""
    image, angle = image.detach().requires_grad_(to_image), angle.detach().requires_grad_(to_angle)
    rotated = method(image, angle)
    if rotated.requires_grad:
        rotated.backward(upstream)


def peaks(size: tuple[int, ...], device: str) -> list[Row]:
    """Return the MiB that a pass of each method takes at its peak, above those of the inputs and the upstream gradient.

    A pass before it loads what a library loads at its first use.
    """
    image, upstream = torch.rand(2, *size, device=device)
    angle = torch.rand(size[0], device=device)
    rows = list[Row]()
    for name, to in PASSES.items():
        row: dict[str, str | float | None] = {"size": " x ".join(map(str, size)), "pass": name}
        for method, rotated in METHODS.items():
            call = partial(run_pass, rotated, image, angle, upstream, *to)
            call()
            row[f"{method}, MiB"] = peak_mib(call, device)
        rows.append(row)
    return rows


def share_of_check(image: Tensor, angle: Tensor, rounds: int, calls: int, device: str) -> float:
    """Return the time of the check of the arguments, as a share of the time of a rotation."""

    def rotate_and_check() -> None:
        rotate(image, angle)
        only_check(image, angle)

    methods: dict[str, Callable[[], object]] = {
        "rotate": partial(rotate, image, angle),
        "rotate and check": rotate_and_check,
    }
    return speedup(alternate(methods, rounds, lead_in=1, calls=calls, device=device), "rotate", "rotate and check") - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Check that the methods agree, time them and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_device()
    options.add_rounds(20)
    args = options.read(arguments)
    torch.manual_seed(0)
    rows, checks = list[Row](), list[Row]()
    for (batch, *shape), calls in CALLS.items():
        size = (min(2, batch) if args.quick else batch, *shape)
        image, upstream = torch.rand(2, *size, device=args.device)
        angle = (torch.rand(size[0], device=args.device) * 2 - 1) * torch.pi
        grid = sampling_grid(rotation_theta(angle, *shape[1:]), *shape[1:])
        check(image, angle)
        for name, to in PASSES.items():
            passes: dict[str, Callable[[], object]] = {
                m: partial(run_pass, f, image, angle, upstream, *to) for m, f in METHODS.items()
            }
            passes["grid_sample alone"] = partial(run_pass, grid_sample, image, grid, upstream, *to)
            passes["copy of the batch"] = image.clone
            times = alternate(passes, args.rounds, lead_in=1, calls=calls, device=args.device)
            rows.append(
                {"size": " x ".join(map(str, size)), "pass": name}
                | {f"{m}, ms": 1000 * median(each) for m, each in times.items()}
                | {f"speed-up over {m}": speedup(times, "stnrot", m) for m in METHODS if m != "stnrot"}
                | {"most over affine_grid": speedup(times, "grid_sample alone", "affine_grid")}
            )
        share = share_of_check(image, angle, 10 * args.rounds, calls, args.device)
        checks.append({"size": " x ".join(map(str, size)), "share of the forward pass, %": 100 * share})
    memory = peaks(size, args.device)  # of the last size, the largest
    facts = environment(args.device) | {"kornia": kornia.__version__}
    tables = (
        Table("rotation of a batch", rows),
        Table("peak of the memory", memory),
        Table("check of the arguments", checks),
    )
    report(args, facts, *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
