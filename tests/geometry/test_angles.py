import math

import numpy as np
import pytest
import torch
from scipy import stats

from stnrot.geometry import angular_distance, circular_mean, wrap


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
