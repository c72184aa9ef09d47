"""Fourier transforms of real numbers at equal steps of the circle, also of what MKL refuses.

These are empty batches and, up to torch 2.7, expanded ones.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from stnrot.arguments import Count, checked
from stnrot.geometry.autograd import at_least_float32


@checked
def rfft(x: Float[Tensor, "*b A"]) -> Complex[Tensor, "*b F"]:
    """Return the sums `sum_j x_j exp(-2 pi i j k / A)` for the frequencies k = 0 ... A / 2, at least in float32."""
    x = at_least_float32(x)
    if x.numel():
        return torch.fft.rfft(x)
    return x[..., :1].expand(*x.shape[:-1], x.shape[-1] // 2 + 1).to(x.dtype.to_complex())


@checked
def irfft(spectrum: Complex[Tensor, "*b a"], count: Count) -> Float[Tensor, "*b {count}"]:
    """Return the values at `count` steps; the inverse of `rfft`. Frequencies above `count / 2` are left out."""
    if spectrum.numel():
        return torch.fft.irfft(spectrum.contiguous(), n=count)
    return spectrum.real[..., :1].expand(*spectrum.shape[:-1], count)
