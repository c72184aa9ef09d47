"""The rotation layer is as fast as torch's and geotorch's at d = 16, and 4 to 20 times as fast from d = 1,024.

    python benchmarks/rotations.py [--device cuda] [--dims 16 64 ...] [--json PATH] [--png PATH]

Eleven minutes on two cores, most of them for the slowest methods at d = 2,048. Needs geotorch (the extra `classical`).
A step is forward and backward, to input and weights, of a batch of 32 or 256. `nn.Linear`, which is no rotation, is the
lower bound. `rotational` is `nn.Linear` with its weight constrained by `stnrot.rotational`, as in torch's methods. The
weight of `newton_schulz` is updated before each step, so that its time includes the iteration that an update causes.

Prints the milliseconds of a step, and the ratios to the default, `householder`: the time of the other method divided by
that of `householder`, the median of the rounds' ratios. The slowest methods are timed apart, in fewer rounds of single
calls. Those rounds include `householder`, and the ratios of the slowest methods are formed with its time there. Then
prints the peak memory of a step beyond the layer itself: results, gradients, and what is kept for the backward pass.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

import geotorch
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from harness.environment import environment
from harness.memory import peak_mib
from harness.report import Options, Row, Table, new_file, report
from harness.timing import Times, alternate, speedup
from stnrot import Rotation, rotational
from stnrot.runs.command_line import one_line_errors

BATCHES = (32, 256)
# d: rounds, calls in each, rounds of the slowest methods
EFFORT = {16: (30, 20, 10), 64: (30, 10, 10), 256: (20, 5, 5), 1024: (15, 3, 3), 2048: (7, 2, 1)}
OURS = ("householder", "cayley", "exp", "qr", "newton_schulz")
REFLECTIONS, WIDE = (2, 8, 32, 128, 512, 1024), 1024


class Sequential(nn.Module):
    """A product of reflections in its simplest form, one after the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim))

    def forward(self, z: Tensor) -> Tensor:
        """Reflect by each row."""
        for v in nn.functional.normalize(self.weight, dim=1):
            z = z - 2 * torch.outer(z @ v, v)
        return z


def linear(dim: int) -> nn.Linear:
    """Return a layer without constraint."""
    return nn.Linear(dim, dim, bias=False)


def geo(dim: int, triv: str) -> nn.Module:
    """Return a layer whose weight geotorch keeps in SO(d)."""
    layer = linear(dim)
    geotorch.orthogonal(layer, "weight", triv=triv)
    return layer


PEERS: dict[str, Callable[[int], nn.Module]] = {
    "torch householder": lambda dim: orthogonal(linear(dim), orthogonal_map="householder"),
    "torch matrix_exp": lambda dim: orthogonal(linear(dim), orthogonal_map="matrix_exp"),
    "torch cayley": lambda dim: orthogonal(linear(dim), orthogonal_map="cayley"),
    "geotorch expm": partial(geo, triv="expm"),
    "geotorch cayley": partial(geo, triv="cayley"),
    "sequential reflections": Sequential,
}
FLOOR = "nn.Linear, no rotation"
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    **{name: partial(Rotation, method=name, init="haar") for name in OURS},
    "rotational": lambda dim: rotational(linear(dim)),
    **PEERS,
    FLOOR: linear,
}
SLOWEST = ("exp", "torch householder", "torch matrix_exp", "geotorch expm", "sequential reflections")


def step(layer: nn.Module, x: Tensor, upstream: Tensor) -> None:
    """Run forward, and backward to the input and all weights."""
    x.grad = None
    for parameter in layer.parameters():
        parameter.grad = None
    if isinstance(layer, Rotation) and layer.method == "newton_schulz":
        with torch.no_grad():
            layer.map.weight.mul_(1 - 1e-3)
    layer(x).backward(upstream)


def timed(layers: Mapping[str, nn.Module], batch: int, rounds: int, calls: int, device: str) -> Times:
    """Return the seconds of a step of each layer, one value a round."""
    dim = next(iter(next(iter(layers.values())).parameters())).shape[-1]
    x, upstream = torch.randn(2, batch, dim, device=device)
    x.requires_grad_()
    methods = {name: partial(step, layer.to(device), x, upstream) for name, layer in layers.items()}
    return alternate(methods, rounds, lead_in=0 if calls == 1 else calls, calls=calls, device=device)


def peaks(layers: Mapping[str, nn.Module], batch: int, device: str) -> dict[str, float | None]:
    """Return the peak memory of a step of each layer, in MiB. All layers have run before."""
    dim = next(iter(next(iter(layers.values())).parameters())).shape[-1]
    x, upstream = torch.randn(2, batch, dim, device=device)
    x.requires_grad_()
    found = {}
    for name, layer in layers.items():
        found[name] = peak_mib(partial(step, layer, x, upstream), device)
        layer.zero_grad()  # the next layer's gradients take their own memory
        x.grad = None
    return found


def draw(rows: list[dict[str, str | float]], by_reflections: dict[int, float], wide: int, path: Path) -> None:
    """Draw time against d, and against the number of reflections."""
    figure = Figure(figsize=(10.4, 3.8), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2)
    few = [row for row in rows if row["batch"] == str(BATCHES[0])]
    for name in LAYERS:
        own = name in (*OURS, "rotational")
        points = [(float(row["d"]), float(row[name])) for row in few]
        axes[0].plot(*zip(*points, strict=True), "o-" if own else "s--", label=name, lw=2.5 if own else 1, ms=4)
    axes[0].set(xlabel="d", ylabel="forward and backward, ms", xscale="log", yscale="log", title="batch of 32")
    axes[0].set_xticks([float(row["d"]) for row in few], [str(row["d"]) for row in few])
    axes[0].legend(fontsize=7)
    axes[1].plot(list(by_reflections), list(by_reflections.values()), "o-", lw=2.5)
    axes[1].set(
        xlabel="reflections m",
        ylabel="forward and backward, ms",
        title=f"householder, d = {wide:,}, batch of {BATCHES[0]}",
    )
    axes[1].set(ylim=(0, None))
    for each in axes:
        each.grid(alpha=0.3, which="both")
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time all layers at all sizes and report."""
    options = Options(__file__, __doc__, rounds=1, dims=[16])
    options.add_device()
    options.add_rounds(None)
    options.add_argument("--dims", type=int, nargs="+", default=list(EFFORT), choices=EFFORT)
    options.add_argument("--png", type=new_file, metavar="PATH", help="draw the times to this file")
    args = options.read(arguments)
    torch.manual_seed(0)
    rows: list[dict[str, str | float]] = []
    compared: list[Row] = []
    memory: list[Row] = []
    for dim in args.dims:
        rounds, calls, few = EFFORT[dim]
        for batch in BATCHES:
            layers = {name: make(dim) for name, make in LAYERS.items()}
            slow = {name: layer for name, layer in layers.items() if name in ("householder", *SLOWEST)}
            fast = {name: layer for name, layer in layers.items() if name not in SLOWEST}
            slowly = timed(slow, batch, args.rounds or few, 1, args.device)
            times = timed(fast, batch, args.rounds or rounds, calls, args.device)
            milliseconds: dict[str, str | float] = {name: 1000 * median((slowly | times)[name]) for name in LAYERS}
            ratios: dict[str, float] = {
                name: speedup(slowly if name in SLOWEST else times, "householder", name) for name in PEERS
            }
            size: dict[str, str | float] = {"d": str(dim), "batch": str(batch)}
            rows.append(size | milliseconds)
            floor = speedup(times, FLOOR, "householder")
            if batch == BATCHES[0]:
                memory.append({**size, **peaks(layers, batch, args.device)})
            best = min(ratios, key=lambda name: ratios[name])
            compared.append(size | ratios | {"best peer": best, "householder's time over nn.Linear's": floor})
            print(f"d = {dim}, batch of {batch}: done", file=sys.stderr, flush=True)
    wide = args.dims[0] if args.quick else WIDE
    counts = {str(m): Rotation(wide, reflections=m) for m in REFLECTIONS if m <= wide}
    counted = timed(counts, BATCHES[0], args.rounds if args.quick else 15, 3, args.device)
    by_reflections = {int(name): 1000 * median(each) for name, each in counted.items()}
    report(
        args,
        environment(args.device) | {"geotorch": version("geotorch")},
        Table("milliseconds of a step, forward and backward", rows),
        Table("time divided by that of `Rotation(d)`, householder", compared),
        Table("peak memory of a step beyond the layer itself, MiB", memory),
        Table(
            f"householder, d = {wide:,}, batch of {BATCHES[0]}, by the number of reflections",
            [{"reflections": m, "ms": ms} for m, ms in by_reflections.items()],
        ),
    )
    if args.png is not None:
        draw(rows, by_reflections, wide, args.png)


if __name__ == "__main__":
    with one_line_errors():
        main()
