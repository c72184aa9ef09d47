import math

import numpy as np
import pytest
import torch
from scipy import ndimage, signal, stats
from scipy.signal import find_peaks
from scipy.special import logsumexp

from stnrot.errors import InputError
from stnrot.geometry import angular_distance, circular_mean, circular_peaks, upsample_log_density, wrap
from stnrot.geometry.angles import _interpolation


def test_wrap_keeps_the_point_on_the_circle_and_the_range() -> None:
    angle = torch.linspace(-20, 20, 1001, dtype=torch.float64)
    wrapped = wrap(angle)
    assert (wrapped >= -math.pi).all()
    assert (wrapped < math.pi).all()
    torch.testing.assert_close(torch.polar(torch.ones_like(angle), wrapped), torch.polar(torch.ones_like(angle), angle))


def test_distance_is_that_of_complex_numbers() -> None:
    a, b = (torch.rand(2, 500, dtype=torch.float64) - 0.5) * 30
    expected = np.abs(np.angle(np.exp(1j * (a - b).numpy())))
    np.testing.assert_allclose(angular_distance(a, b).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("centre", [0.3, 3.1, -2.0])
def test_circular_mean_is_scipys(centre: float) -> None:
    angle = centre + torch.randn(200, dtype=torch.float64)
    expected = stats.circmean(angle.numpy(), high=math.pi, low=-math.pi)
    assert float(angular_distance(circular_mean(angle), torch.tensor(expected))) < 1e-9


def smooth_scores(batch: int, bins: int) -> torch.Tensor:
    """Return random functions on the circle with a few harmonics, sampled at equal bins."""
    harmonics = torch.zeros(batch, bins // 2 + 1, dtype=torch.complex128)
    harmonics[:, 1:6] = torch.randn(batch, 5, dtype=torch.complex128)
    return torch.fft.irfft(harmonics, n=bins) * bins


def test_peaks_are_scipys() -> None:
    score = smooth_scores(50, 64)
    angle, log_mass = circular_peaks(score, 4, 2)
    torch.testing.assert_close(log_mass.exp().sum(1), torch.ones(50, dtype=torch.float64))
    for s, angles, masses in zip(score.numpy(), angle.numpy(), log_mass.exp().numpy(), strict=True):
        places = find_peaks(np.tile(s, 3))[0]
        places = [p - 64 for p in places if 64 <= p < 128]
        highest = sorted(places, key=lambda p: -s[p])[:4]
        mass = {p: np.exp(logsumexp(np.tile(s, 3)[62 + p : 67 + p])) for p in highest}
        by_mass = sorted(highest, key=lambda p: -mass[p])
        expected = np.array([p * 2 * np.pi / 64 for p in by_mass])
        off = np.abs(np.angle(np.exp(1j * (angles[: len(expected)] - expected))))
        assert (off <= np.pi / 64 + 1e-9).all()  # at most half a bin from the centre of the bin
        total = sum(mass.values())
        np.testing.assert_allclose(masses[: len(expected)], [mass[p] / total for p in by_mass], rtol=1e-6)
        np.testing.assert_allclose(masses[len(expected) :], 0)


def test_peaks_lie_between_the_bins() -> None:
    """Compare the highest maximum with a search over ten thousand angles of the same function."""
    score = smooth_scores(100, 64)
    angle, _ = circular_peaks(score, 8, 2)
    fine = torch.fft.irfft(torch.fft.rfft(score), n=10240).argmax(1) * (2 * math.pi / 10240)
    error = angular_distance(angle, fine[:, None].expand_as(angle)).amin(1)
    assert error.max() < math.radians(0.5)  # a bin has 5.6 degrees
    assert error.median() < math.radians(0.1)


def test_one_peak_within_reach() -> None:
    """Compare the maxima of white noise with scipy's maximum filter."""
    score = torch.randn(30, 64, dtype=torch.float64)
    angle, _ = circular_peaks(score, 3, 5)
    for s, angles in zip(score.numpy(), angle.numpy(), strict=True):
        places = np.flatnonzero(ndimage.maximum_filter1d(s, 11, mode="wrap") == s)
        highest = sorted(places, key=lambda p: -s[p])[:3]
        off = np.abs(np.angle(np.exp(1j * (angles[:, None] - np.array(highest) * 2 * np.pi / 64))))
        assert (off.min(0) <= np.pi / 64 + 1e-9).all()


@pytest.mark.parametrize("few", [15, 16])
@pytest.mark.parametrize("many", [1, 2, 7, 8, 14, 16, 40, 41])
def test_upsampling_is_scipys_resampling(few: int, many: int) -> None:
    density = torch.randn(5, few, dtype=torch.float64).log_softmax(1)
    expected = signal.resample(density.numpy(), many, axis=1)
    expected -= logsumexp(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(upsample_log_density(density, many).numpy(), expected, atol=1e-9)
    if many != few:
        finer = density @ _interpolation(few, many, density.device, density.dtype)  # of an exported graph
        np.testing.assert_allclose(finer.log_softmax(1).numpy(), expected, atol=1e-9)


def test_fewer_peaks_than_requested() -> None:
    bins = torch.arange(16) * (2 * math.pi / 16)
    angle, log_mass = circular_peaks((bins - 1.1).cos()[None] * 9, 3, 1)
    assert (angular_distance(angle, torch.full_like(angle, 1.1)) < 0.02).all()
    torch.testing.assert_close(log_mass.exp(), torch.tensor([[1.0, 0.0, 0.0]]))
    angle, log_mass = circular_peaks(torch.zeros(2, 16), 3, 1)  # no maximum at all
    assert angle.isfinite().all()
    torch.testing.assert_close(log_mass.exp().sum(1), torch.ones(2))


def test_peaks_keep_the_gradient() -> None:
    score = smooth_scores(5, 32).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: circular_peaks(s, 2, 2), (score,))


def test_a_flat_score_moves_no_angle() -> None:
    score = torch.full((1, 16), 3.0, requires_grad=True)
    angle, _ = circular_peaks(score, 1, 2)
    angle.sum().backward()
    assert angle.isfinite().all()
    assert torch.equal(score.grad, torch.zeros_like(score))


def test_bins_of_zero_density_and_invalid_scores() -> None:
    score = torch.full((4, 16), -math.inf)
    score[0, 5] = 0.0  # all of the mass in one bin
    score[1, 5], score[1, 6] = 0.0, -1.0
    score[2], score[3] = math.nan, math.inf
    angle, log_mass = circular_peaks(score, 1, 1)
    assert angle[0].item() == pytest.approx(5 * 2 * math.pi / 16)
    assert angle[1].item() == pytest.approx(5.5 * 2 * math.pi / 16)  # towards the neighbour that has mass
    torch.testing.assert_close(log_mass[:2], torch.zeros(2, 1))
    assert angle[2:].isnan().all()
    assert log_mass[2:].isnan().all()


@pytest.mark.parametrize(
    ("count", "reach", "message"),
    [(9, 1, "count: expected a whole number from 1 to 8"), (1, 4, "reach: expected"), (1, 0, "reach: expected")],
)
def test_too_many_peaks_and_too_wide_windows_are_refused(count: int, reach: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        circular_peaks(torch.zeros(1, 8), count, reach)


def test_a_density_of_the_same_bins_is_normalised_too() -> None:
    assert upsample_log_density(torch.ones(2, 8), 8).exp().sum(1).tolist() == pytest.approx([1, 1])
