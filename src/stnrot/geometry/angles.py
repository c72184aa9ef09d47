"""Arithmetic on the circle."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import Count, checked
from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.constants import constant, counting
from stnrot.geometry.fourier import irfft, rfft
from stnrot.geometry.tails import log_softmax, logsumexp

FLAT = 1e-3  # a maximum of less curvature is flat: its vertex and the gradient of the vertex are only rounding errors


@checked
def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Bring angles (radians) into [-pi, pi). The derivative is 1, except at the jump from pi to -pi.

    Just below -pi, rounding may return pi. The computation is at least in float32.

    >>> round(wrap(torch.tensor(4.0)).item(), 4)
    -2.2832
    """
    return (torch.remainder(at_least_float32(angle) + math.pi, 2 * math.pi) - math.pi).to(angle.dtype)


@checked
def angular_distance(a: Float[Tensor, "*#n"], b: Float[Tensor, "*#n"]) -> Float[Tensor, "*#n"]:
    """Return the length of the shorter arc between two angles (radians), in [0, pi].

    The shapes are broadcast, as in `a - b`. The computation is at least in float32.

    >>> round(angular_distance(torch.tensor(3.0), torch.tensor(-3.0)).item(), 4)
    0.2832
    """
    dtype = a.dtype if a.dtype == b.dtype else torch.result_type(a, b)
    return wrap(at_least_float32(a) - at_least_float32(b)).abs().to(dtype)


@checked
def circular_mean(angle: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    r"""Return the direction of the mean resultant, `atan2(sum sin a, sum cos a)`, in radians.

    If the resultant is zero, the mean is undefined, and the result is `atan2(0, 0) = 0`.
    Source: K. V. Mardia and P. E. Jupp, Directional Statistics, 2000, section 2.2.

    >>> circular_mean(torch.tensor([0.1, 2 * math.pi - 0.1])).abs().item() < 1e-6
    True
    """
    wide = at_least_float32(angle)
    return torch.atan2(wide.sin().sum(), wide.cos().sum()).to(angle.dtype)


@checked
def upsample_log_density(log_density: Float[Tensor, "B a"], bins: Count) -> Float[Tensor, "B {bins}"]:
    """Resample a log-density on equal bins of the circle to more bins, by trigonometric interpolation.

    With fewer bins, the frequencies that they cannot represent are left out.
    The result is normalised: its exponentials sum to one. The computation is at least in float32.

    >>> upsample_log_density(torch.zeros(1, 8).log_softmax(1), 32).exp().sum().round().item()
    1.0
    """
    few = log_density.shape[1]
    wide = at_least_float32(log_density)
    if few == bins:
        return wide.log_softmax(1).to(log_density.dtype)
    if torch.compiler.is_exporting():  # few runtimes have Fourier transforms
        finer = wide @ _interpolation(few, bins, wide.device, wide.dtype)
        return finer.log_softmax(1).to(log_density.dtype)
    spectrum = rfft(wide)[:, : bins // 2 + 1]
    if min(few, bins) % 2 == 0:  # the highest frequency stands for both signs in the density of fewer bins alone
        spectrum = torch.cat((spectrum[:, :-1], spectrum[:, -1:] * (0.5 if bins > few else 2.0)), 1)
    missing = bins // 2 + 1 - spectrum.shape[1]
    spectrum = F.pad(spectrum, (0, missing))
    return (irfft(spectrum, bins) * (bins / few)).log_softmax(1).to(log_density.dtype)


@constant
def _interpolation(few: int, bins: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "{few} {bins}"]:
    """Return the matrix of `upsample_log_density`, without Fourier transforms.

    It is `sum_k w_k cos(k (b - a)) / few` for the angles a and b of a bin before and after, over the frequencies k that
    both can represent. The weight is 1 for k = 0 and 2 for others, which stand for both signs.
    """
    frequency = torch.arange(min(few, bins) // 2 + 1, device=device)
    weight = torch.full((len(frequency),), 2 / few, device=device, dtype=dtype)
    weight = weight.masked_fill(frequency == 0, 1 / few)
    if few < bins:
        weight = weight.masked_fill(2 * frequency == few, 1 / few)
    # multiples of a bin are counted in whole numbers, which are exact
    before, after = (
        (torch.arange(count, device=device)[:, None] * frequency % count).to(dtype) * (2 * math.pi / count)
        for count in (few, bins)
    )
    return (before.cos() * weight) @ after.cos().T + (before.sin() * weight) @ after.sin().T


@checked
def circular_peaks(
    score: Float[Tensor, "B A"], count: Count, reach: Count
) -> tuple[Float[Tensor, "B {count}"], Float[Tensor, "B {count}"]]:
    r"""Find the `count` highest maxima of scores in equal bins of the circle. The largest mass comes first.

    A maximum is at least as high as every bin within `reach`, and higher than the next bin. Its angle is the vertex of
    the parabola through its bin and the two neighbours. Its log-mass covers the bins within `reach`:

        angle = (2 pi / A) (i + (s[i-1] - s[i+1]) / (2 (s[i-1] - 2 s[i] + s[i+1]))),
        mass = logsumexp(s[i+j], |j| <= reach).

    Both are differentiable in the scores. (A soft-argmax over the same bins was several times less precise: its window
    is centred on a bin, not on the maximum.) If there are fewer than `count` maxima, the highest is repeated with a
    log-mass so low that its mass is zero. The computation is at least in float32.

    Args:
        score: log-density up to a constant. Bin i is the angle `2 pi i / A`. A bin may be -inf: its density is zero. If
            a score is NaN or +inf, the results of its row are NaN.
        count: number of maxima, at most A.
        reach: bins on either side that belong to a maximum; at least 1, and `2 reach + 1` is at most A.

    Returns:
        Angles in radians, in [-pi, pi), and log-masses. The masses sum to one.

    Raises:
        InputError: if `count` or `2 reach + 1` is more than A.

    >>> bins = torch.arange(16) * (2 * math.pi / 16)
    >>> angle, _ = circular_peaks((9 * (bins - 1.1).cos())[None], count=1, reach=1)
    >>> round(angle.item(), 1)
    1.1
    """
    bins, given = score.shape[1], score.dtype
    if count > bins:
        raise InputError(f"count: expected a whole number from 1 to {bins}, the bins of score, got {count}")
    if 2 * reach >= bins:
        raise InputError(
            f"reach: expected a whole number of at least 1 with 2 reach + 1 <= {bins}, the bins of score, got {reach}"
        )
    score = at_least_float32(score)
    least = torch.finfo(score.dtype).min
    invalid = ~(score.detach().amax(1, keepdim=True) < math.inf)  # also for NaN
    around = torch.cat((score[:, -reach:], score, score[:, :reach]), 1)
    highest = F.max_pool1d(around.detach()[:, None], 2 * reach + 1, 1)[:, 0]
    is_lower = (score < highest) | (score <= around[:, reach + 1 : reach + 1 + bins])
    height, bin_index = score.masked_fill(is_lower, -math.inf).topk(count, -1)
    missing = height.isinf()
    bin_index = torch.where(missing, bin_index[:, :1], bin_index)
    window = bin_index[..., None] + counting(2 * reach + 1, score.device)
    local = around.gather(1, window.flatten(1)).view_as(window)
    before, here, after = local[..., reach - 1 : reach + 2].clamp(min=least / 8).unbind(-1)  # no -inf minus -inf
    curvature = before - 2 * here + after
    vertex = ((before - after) / (2 * curvature.clamp(max=-FLAT))).masked_fill(curvature >= -FLAT, 0)
    angle = (bin_index + vertex) * (2 * math.pi / bins)
    mass = log_softmax(logsumexp(local, -1).masked_fill(missing, least), -1)
    mass, order = mass.sort(descending=True)
    angle, mass = (each.masked_fill(invalid, math.nan) for each in (wrap(angle.gather(1, order)), mass))
    return angle.to(given), mass.to(given)
