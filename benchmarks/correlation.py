"""The correlation of the polar encoder is faster as a product of matrices than by FFT, which has less to compute.

    python benchmarks/correlation.py [--device cuda] [--batch 128] [--json PATH]

correlates features of the default size over more and more directions, forward and backward, in both ways, after a check
that both find the same. Features are in bf16 where training has them so; there is no FFT of bf16, so spectra are in
float32. Takes half a minute on two cores.
"""

from collections.abc import Callable
from statistics import median

import torch
from timing import at_least_one, environment, in_turn, parser, report, speedup  # type: ignore[import-not-found]
from torch import Tensor

from stnrot.models.encoders.polar import cosines
from stnrot.runs.precision import auto_precision

DIRECTIONS = (64, 128, 256)
FEATURES = 16 * 16  # radii and channels


def cosines_by_fft(f: Tensor, g: Tensor) -> Tensor:
    """Return what `cosines` does."""
    f, g = f.float(), g.float()
    spectrum = (torch.fft.rfft(f, dim=1).conj() * torch.fft.rfft(g, dim=1)).sum(2)
    size = torch.linalg.vector_norm(f, dim=(1, 2)) * torch.linalg.vector_norm(g, dim=(1, 2))
    return torch.fft.irfft(spectrum, n=f.shape[1]) / size[:, None]


def step(method: Callable[[Tensor, Tensor], Tensor], f: Tensor, g: Tensor, kind: torch.dtype) -> Callable[[], None]:
    """Return the function that goes forward and backward once."""
    return lambda: method(f.to(kind), g.to(kind)).square().sum().backward()


def main() -> None:
    """Check, time and report."""
    options = parser(__doc__, rounds=10)
    options.add_argument("--batch", type=at_least_one, default=128)
    args = options.parse_args()
    device: str = args.device
    kind = torch.bfloat16 if auto_precision(device) == "bf16-mixed" else torch.float32
    rows: list[dict[str, str | float]] = []
    for directions in DIRECTIONS:
        size = (directions, FEATURES)
        f, g = (torch.randn(n, *size, device=device, requires_grad=True) for n in (args.batch, 1))
        torch.testing.assert_close(cosines(f, g), cosines_by_fft(f, g))
        methods = {"product": step(cosines, f, g, kind), "FFT": step(cosines_by_fft, f, g, kind)}
        times = in_turn(methods, args.rounds, lead_in=1, calls=10, device=device)
        row = {f"{name}, ms": 1e3 * median(times[name]) for name in methods}
        rows.append({"correlation": f"{directions} shifts", **row, "speed-up": speedup(times, "product", "FFT")})
    report(environment(device) | {"features": str(kind)}, rows, args.json)


if __name__ == "__main__":
    main()
