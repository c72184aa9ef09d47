"""Every method of `Rotation` finds a hidden rotation of R^32 from samples of R^T f(R z) better than free matrices do.

    python benchmarks/conjugate.py [--seeds 5] [--epochs 20] [--json PATH]

Ten minutes on two cores. Trains each method, and two layers without the constraint, on the samples of
`experiment=conjugate`; each seed draws other samples. All use Adam and one cycle of the learning rate. Of five peak
rates the one with the least validation error on a separate seed is used.

Prints for each method the test error; "axes off", the largest angle between an axis that was found and the hidden one,
up to the symmetry of f (order and sign); the defect of the matrix; and "steps" until the validation error, measured
after each epoch of 80 steps, is below 1 % of the variance of y.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from harness.environment import environment
from harness.report import Options, Table, at_least_one, report
from stnrot import Conjugate, Rotation
from stnrot.data.batch_samplers import TrainingBatches
from stnrot.data.conjugate import ConjugateData
from stnrot.geometry import rotation_defect
from stnrot.geometry.axis_matching import axis_angles
from stnrot.layers.scaled_tanh import ScaledTanh
from stnrot.runs.command_line import one_line_errors

DIM, BATCH = 32, 250
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
METHODS = ("householder", "cayley", "exp", "qr", "newton_schulz", "penalty")
REACHED = 0.01


class TwoLinear(nn.Module):
    """V f(W z), two free matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.f, self.outer = (
            nn.Linear(DIM, DIM, bias=False),
            ScaledTanh(DIM),
            nn.Linear(DIM, DIM, bias=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return V f(W z)."""
        return self.outer(self.f(self.inner(z)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: Conjugate(ScaledTanh(DIM), Rotation(DIM, name)) for name in METHODS},  # type: ignore[misc]
    "W^T f(W z), W free": lambda: Conjugate(ScaledTanh(DIM), Rotation(DIM, "penalty")),
    "V f(W z), nn.Linear": TwoLinear,
}


@dataclass(frozen=True)
class Result:
    """Result of one run. Errors are shares of the variance of y, angles are in degrees."""

    validation: float
    test: float
    axes_deg: float
    defect: float
    steps: int | None
    seconds: float


def run(name: str, rate: float, epochs: int, samples: int, seed: int) -> Result:
    """Train once with a peak learning rate and measure."""
    torch.manual_seed(seed)
    data = ConjugateData(dim=DIM, samples=samples, scale=2.0, noise=0.1, batch_size=BATCH, seed=seed, split_seed=seed)
    data.setup()
    parts, variance = data.parts, data.parts["val"].y.var().item()
    model: Any = MODELS[name]()
    weight = 1.0 if name == "penalty" else 0.0
    total = epochs * (samples // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=total)
    step, reached, seconds = 0, None, 0.0

    def error(part: str) -> float:
        with torch.no_grad():
            return (model(parts[part].z) - parts[part].y).square().mean().item() / variance

    for epoch in range(epochs):
        start = time.perf_counter()
        for batch in TrainingBatches(samples, BATCH, 1, seed, lambda epoch=epoch: epoch, (0, 1)):  # type: ignore[misc]
            z, y = parts["train"].__getitems__(batch)
            loss = (model(z) - y).square().mean()
            if weight:
                loss = loss + weight * model.rotation.penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
        seconds += time.perf_counter() - start
        if reached is None and error("val") < REACHED:
            reached = step
    inner = (model.inner.weight if isinstance(model, TwoLinear) else model.rotation.matrix()).detach().double()
    hidden = data.truth.rotation.matrix().detach().double()
    axes = axis_angles(inner @ hidden.T).max().rad2deg().item()
    return Result(error("val"), error("test"), axes, rotation_defect(inner).item(), reached, seconds)


def row(name: str, rate: float, results: list[Result]) -> dict[str, str | float]:
    """Return a row of the table."""
    steps = [str(r.steps) if r.steps else "never" for r in results]
    return {
        "model": name,
        "learning rate": f"{rate:g}",
        "test error, % of the variance": f"{100 * mean(r.test for r in results):.4f}"
        + (f" +- {100 * stdev(r.test for r in results):.4f}" if len(results) > 1 else ""),
        "axes off, degrees: mean; worst": f"{mean(r.axes_deg for r in results):.2f}; "
        f"{max(r.axes_deg for r in results):.2f}",
        "max abs(R^T R - I)": f"{max(r.defect for r in results):.1e}",
        "steps": ", ".join(steps),
        "seconds": f"{mean(r.seconds for r in results):.1f}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose the learning rates, train and report."""
    options = Options(__file__, __doc__, seeds=1, epochs=1, samples=500)
    options.add_argument("--seeds", type=at_least_one, default=5)
    options.add_argument("--epochs", type=at_least_one, default=20)
    options.add_argument("--samples", type=at_least_one, default=20_000, help=f"to train on, a multiple of {BATCH}")
    args = options.read(arguments)
    if args.samples % BATCH:
        options.error(f"--samples {args.samples}: expected a multiple of {BATCH}")
    rates = RATES[:2] if args.quick else RATES
    rows = []
    for name in MODELS:
        validation = {rate: run(name, rate, args.epochs, args.samples, seed=0).validation for rate in rates}
        rate = min(validation, key=validation.__getitem__)
        seeds = range(1, args.seeds + 1)
        rows.append(row(name, rate, [run(name, rate, args.epochs, args.samples, seed) for seed in seeds]))
        print(rows[-1], file=sys.stderr, flush=True)
    facts = environment("cpu") | {"seeds": args.seeds, "steps": args.epochs * (args.samples // BATCH)}
    report(args, facts, Table("the hidden rotation, by method", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
