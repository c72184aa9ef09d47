"""Arithmetic on the circle."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FLAT = 1e-3  # curvature of a maximum below which its vertex, and the gradient of it, mean nothing


def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Bring angles into [-pi, pi). The derivative is 1 everywhere but at the seam."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def angular_distance(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the length of the shorter arc between two angles, in [0, pi]."""
    return wrap(a - b).abs()


def circular_mean(angle: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    r"""Return the direction of the mean resultant, `atan2(sum sin a, sum cos a)`.

    Undefined where the resultant vanishes; `atan2(0, 0) = 0` is returned there.
    Source: K. V. Mardia and P. E. Jupp, Directional Statistics, 2000, section 2.2.
    """
    return torch.atan2(angle.sin().sum(), angle.cos().sum())


def upsample_log_density(log_density: Float[Tensor, "B a"], bins: int) -> Float[Tensor, "B {bins}"]:
    """Return a normalised log-density of few equal bins of the circle in more, by trigonometric interpolation."""
    few = log_density.shape[1]
    if few == bins:
        return log_density
    spectrum = torch.fft.rfft(log_density)
    if few % 2 == 0:
        spectrum[:, -1] *= 0.5  # stands for both signs of its frequency, which among more bins are two
    return (torch.fft.irfft(spectrum, n=bins) * (bins / few)).log_softmax(1)


def circular_peaks(
    score: Float[Tensor, "B A"], count: int, reach: int
) -> tuple[Float[Tensor, "B {count}"], Float[Tensor, "B {count}"]]:
    r"""Find the `count` highest maxima of scores in equal bins of the circle, highest mass first.

    A maximum is as high as all within `reach` bins, and higher than the next. Its angle is the vertex of the parabola
    through its bin and the two beside it, its log-mass what lies around it:

        angle = (2 pi / A) (i + (s[i-1] - s[i+1]) / (2 (s[i-1] - 2 s[i] + s[i+1]))),
        mass = logsumexp(s[i+j], |j| <= reach),

    both differentiable in the scores. (A soft-argmax over the same bins, whose window is centred on a bin and not
    on the maximum, was several times less precise.) Where there are fewer maxima than asked for, the highest is
    repeated with a log-mass so low that it counts for nothing.

    Args:
        score: log-density up to a constant, bin i standing for the angle `2 pi i / A`.
        count: how many, at most A.
        reach: bins on either side that belong to a maximum, at least 1, and `2 reach + 1` at most A.

    Returns:
        Angles in radians, in [-pi, pi), and log-masses that sum, as masses, to one.
    """
    bins = score.shape[1]
    highest = F.max_pool1d(F.pad(score.detach()[:, None], (reach, reach), mode="circular"), 2 * reach + 1, 1)[:, 0]
    is_peak = (score == highest) & (score > score.roll(-1, -1))
    height, place = torch.where(is_peak, score, -math.inf).topk(count, -1)
    missing = height.isinf()
    place = torch.where(missing, place[:, :1], place)
    offset = torch.arange(-reach, reach + 1, device=score.device)
    around = (place[..., None] + offset) % bins
    local = score.gather(1, around.flatten(1)).view_as(around)
    before, here, after = local[..., reach - 1 : reach + 2].unbind(-1)
    curvature = before - 2 * here + after
    vertex = torch.where(curvature < -FLAT, (before - after) / (2 * curvature.clamp(max=-FLAT)), 0.0)
    angle = (place + vertex) * (2 * math.pi / bins)
    mass = torch.where(missing, torch.finfo(score.dtype).min, local.logsumexp(-1)).log_softmax(-1)
    mass, order = mass.sort(descending=True)
    return wrap(angle.gather(1, order)), mass
