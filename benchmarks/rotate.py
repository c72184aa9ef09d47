"""`stnrot.geometry.rotate` is faster than `F.affine_grid` + `F.grid_sample` and than kornia, same picture.

    python benchmarks/rotate.py [--device cuda] [--json PATH]

takes about a minute on two cores. The speed-up is the other method's time over that of stnrot, the
median of ratios within a round. On a busy machine set OMP_NUM_THREADS=1: else it is the threads' waiting
for one another that is timed.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import kornia
import torch
import torch.nn.functional as F
from timing import environment, in_turn, parser, report, speedup  # type: ignore[import-not-found]
from torch import Tensor

from stnrot.geometry import inscribed_disc, rotate, rotation_theta

Method = Callable[[Tensor, Tensor], Tensor]
CALLS = {(256, 1, 28, 28): 10, (32, 3, 224, 224): 1}  # size: calls in a turn
PASSES = {  # name: whether the gradient goes to the angle, to the image
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


METHODS: dict[str, Method] = {"stnrot": rotate, "affine_grid": affine_grid, "kornia": kornia_rotate}


def check(image: Tensor, angle: Tensor) -> None:
    """Raise unless all methods turn out the same picture, up to rounding; for kornia, inside the picture."""
    ours = rotate(image, angle)
    inside = inscribed_disc(image.shape[-2:], image.device)
    torchs = (ours - affine_grid(image, angle)).abs()
    kornias = (ours - kornia_rotate(image, angle))[..., inside].abs()
    for name, gap, tolerance in (("affine_grid", torchs, 1e-5), ("kornia", kornias, 1e-3)):
        share = (gap > tolerance).float().mean()
        if share > 0.05:
            raise RuntimeError(f"{name} and stnrot differ by over {tolerance} in {share:.0%} of the values")


def run_pass(method: Method, image: Tensor, angle: Tensor, upstream: Tensor, to_angle: bool, to_image: bool) -> None:
    """Rotate and go back, from a gradient of the turned picture, to the inputs that are to have one."""
    image, angle = image.detach().requires_grad_(to_image), angle.detach().requires_grad_(to_angle)
    turned = method(image, angle)
    if turned.requires_grad:
        turned.backward(upstream)


def main() -> None:
    """Check that the methods agree, time them and report."""
    args = parser(__doc__, rounds=30).parse_args()
    torch.manual_seed(0)
    rows = []
    for size, calls in CALLS.items():
        image, upstream = torch.rand(2, *size, device=args.device)
        angle = (torch.rand(size[0], device=args.device) * 2 - 1) * torch.pi
        check(image, angle)
        for name, to in PASSES.items():
            methods = {m: partial(run_pass, f, image, angle, upstream, *to) for m, f in METHODS.items()}
            times = in_turn(methods, args.rounds, lead_in=1, calls=calls, device=args.device)
            rows.append(
                {"size": " x ".join(map(str, size)), "pass": name}
                | {f"{m}, ms": 1000 * median(each) for m, each in times.items()}
                | {f"speed-up over {m}": speedup(times, "stnrot", m) for m in METHODS if m != "stnrot"}
            )
    report(environment(args.device) | {"kornia": kornia.__version__}, rows, args.json)


if __name__ == "__main__":
    main()
