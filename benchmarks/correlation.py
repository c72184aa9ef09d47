"""The correlation of the polar encoder is faster as a matrix product than by FFT, although FFT needs fewer operations.

    python benchmarks/correlation.py [--device cuda] [--batch 128] [--json PATH]

Half a minute on two cores. First checks that both find the same. Then prints the milliseconds of forward and backward
with features of the default size, for 64, 128 and 256 directions. Features are in bf16 where training uses bf16.
Spectra are in float32, since there is no FFT of bf16.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from harness.environment import environment
from harness.report import Options, Table, at_least_one, report
from harness.timing import alternate, speedup
from stnrot.models.encoders.polar import cosines
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision

DIRECTIONS = (64, 128, 256)
FEATURES = 16 * 16  # radii and channels


def cosines_by_fft(f: Tensor, g: Tensor) -> Tensor:
    """Compute the same as `cosines`, by the correlation theorem."""
    f, g = f.float(), g.float()
    spectrum = (torch.fft.rfft(f, dim=1).conj() * torch.fft.rfft(g, dim=1)).sum(2)
    size = torch.linalg.vector_norm(f, dim=(1, 2)) * torch.linalg.vector_norm(g, dim=(1, 2))
    return torch.fft.irfft(spectrum, n=f.shape[1]) / size[:, None]


def step(method: Callable[[Tensor, Tensor], Tensor], f: Tensor, g: Tensor, kind: torch.dtype) -> Callable[[], None]:
    """Return a function that runs forward and backward once."""
    return lambda: method(f.to(kind), g.to(kind)).square().sum().backward()


def main(arguments: Sequence[str] | None = None) -> None:
    """Check that both ways agree, time them and report."""
    options = Options(__file__, __doc__, rounds=1, batch=2)
    options.add_device()
    options.add_rounds(10)
    options.add_argument("--batch", type=at_least_one, default=128)
    args = options.read(arguments)
    kind = torch.bfloat16 if auto_precision(args.device) == "bf16-mixed" else torch.float32
    rows: list[dict[str, str | float]] = []
    for directions in DIRECTIONS:
        size = (directions, FEATURES)
        f, g = (torch.randn(n, *size, device=args.device, requires_grad=True) for n in (args.batch, 1))
        torch.testing.assert_close(cosines(f, g), cosines_by_fft(f, g))
        methods = {"product": step(cosines, f, g, kind), "FFT": step(cosines_by_fft, f, g, kind)}
        times = alternate(methods, args.rounds, lead_in=1, calls=10, device=args.device)
        row = {f"{name}, ms": 1e3 * median(times[name]) for name in methods}
        rows.append({"correlation": f"{directions} shifts", **row, "speed-up": speedup(times, "product", "FFT")})
    report(args, environment(args.device) | {"features": str(kind)}, Table("forward and backward", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
