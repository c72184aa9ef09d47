"""Arithmetic on the circle."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FLAT = 1e-3  # a maximum of less curvature is flat: its vertex and the gradient of the vertex are only rounding errors


def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Bring angles (radians) into [-pi, pi). The derivative is 1, except at the jump from pi to -pi.

    >>> round(wrap(torch.tensor(4.0)).item(), 4)
    -2.2832
    """
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def angular_distance(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the length of the shorter arc between two angles (radians), in [0, pi].

    >>> round(angular_distance(torch.tensor(3.0), torch.tensor(-3.0)).item(), 4)
    0.2832
    """
    return wrap(a - b).abs()


def circular_mean(angle: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    r"""Return the direction of the mean resultant, `atan2(sum sin a, sum cos a)`, in radians.

    If the resultant is zero, the mean is undefined, and the result is `atan2(0, 0) = 0`.
    Source: K. V. Mardia and P. E. Jupp, Directional Statistics, 2000, section 2.2.

    >>> circular_mean(torch.tensor([0.1, 2 * math.pi - 0.1])).abs().item() < 1e-6
    True
    """
    return torch.atan2(angle.sin().sum(), angle.cos().sum())


def upsample_log_density(log_density: Float[Tensor, "B a"], bins: int) -> Float[Tensor, "B {bins}"]:
    """Resample a log-density on equal bins of the circle to more bins, by trigonometric interpolation.

    The result is normalised: its exponentials sum to one.

    >>> upsample_log_density(torch.zeros(1, 8).log_softmax(1), 32).exp().sum().round().item()
    1.0
    """
    few = log_density.shape[1]
    if few == bins:
        return log_density
    spectrum = torch.fft.rfft(log_density)
    if few % 2 == 0:
        spectrum[:, -1] *= 0.5  # the highest frequency stands for both signs; with more bins each has its own term
    return (torch.fft.irfft(spectrum, n=bins) * (bins / few)).log_softmax(1)


def circular_peaks(
    score: Float[Tensor, "B A"], count: int, reach: int
) -> tuple[Float[Tensor, "B {count}"], Float[Tensor, "B {count}"]]:
    r"""Find the `count` highest maxima of scores in equal bins of the circle. The largest mass comes first.

    A maximum is at least as high as every bin within `reach`, and higher than the next bin. Its angle is the vertex of
    the parabola through its bin and the two neighbours. Its log-mass covers the bins within `reach`:

        angle = (2 pi / A) (i + (s[i-1] - s[i+1]) / (2 (s[i-1] - 2 s[i] + s[i+1]))),
        mass = logsumexp(s[i+j], |j| <= reach).

    Both are differentiable in the scores. (A soft-argmax over the same bins was several times less precise: its window
    is centred on a bin, not on the maximum.) If there are fewer than `count` maxima, the highest is repeated with a
    log-mass so low that its mass is zero.

    Args:
        score: log-density up to a constant. Bin i is the angle `2 pi i / A`.
        count: number of maxima, at most A.
        reach: bins on either side that belong to a maximum; at least 1, and `2 reach + 1` is at most A.

    Returns:
        Angles in radians, in [-pi, pi), and log-masses. The masses sum to one.

    >>> bins = torch.arange(16) * (2 * math.pi / 16)
    >>> angle, _ = circular_peaks((9 * (bins - 1.1).cos())[None], count=1, reach=1)
    >>> round(angle.item(), 1)
    1.1
    """
    bins = score.shape[1]
    highest = F.max_pool1d(F.pad(score.detach()[:, None], (reach, reach), mode="circular"), 2 * reach + 1, 1)[:, 0]
    is_peak = (score == highest) & (score > score.roll(-1, -1))
    height, bin_index = torch.where(is_peak, score, -math.inf).topk(count, -1)
    missing = height.isinf()
    bin_index = torch.where(missing, bin_index[:, :1], bin_index)
    offset = torch.arange(-reach, reach + 1, device=score.device)
    around = (bin_index[..., None] + offset) % bins
    local = score.gather(1, around.flatten(1)).view_as(around)
    before, here, after = local[..., reach - 1 : reach + 2].unbind(-1)
    curvature = before - 2 * here + after
    vertex = torch.where(curvature < -FLAT, (before - after) / (2 * curvature.clamp(max=-FLAT)), 0.0)
    angle = (bin_index + vertex) * (2 * math.pi / bins)
    mass = torch.where(missing, torch.finfo(score.dtype).min, local.logsumexp(-1)).log_softmax(-1)
    mass, order = mass.sort(descending=True)
    return wrap(angle.gather(1, order)), mass
