import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from stnrot.errors import InputError
from stnrot.models.angle_loss import CONCENTRATION, angle_loss
from stnrot.models.outputs import Orientation


def test_angle_loss_of_a_regressor_is_that_of_von_mises() -> None:
    predicted, true = torch.randn(2, 50, dtype=torch.float64) * 10
    density = stats.vonmises(CONCENTRATION).logpdf
    expected = np.mean(density(0) - density((predicted - true).numpy()))

    def loss(angle: torch.Tensor) -> torch.Tensor:
        return angle_loss(Orientation(angle[:, None], torch.zeros(50, 1), None), true, 0.0)

    assert abs(float(loss(predicted)) - expected) < 1e-10
    assert torch.autograd.gradcheck(loss, (predicted.requires_grad_(),))


def test_angle_loss_of_a_search_is_the_likelihood_of_its_posterior() -> None:
    """At the bins it is torch's cross-entropy, between them numpy's interpolation, round the circle."""
    score = torch.randn(40, 12, dtype=torch.float64)
    posterior = score.log_softmax(-1)
    orientation = Orientation(torch.zeros(40, 1), torch.zeros(40, 1), posterior)
    bins = torch.randint(-20, 20, (40,))
    at_bins = angle_loss(orientation, bins * (2 * math.pi / 12), 0.0)
    torch.testing.assert_close(at_bins, F.cross_entropy(score, bins % 12), atol=1e-6, rtol=0)
    angle = torch.rand(40, dtype=torch.float64) * 30 - 15
    places = np.arange(12) * 2 * np.pi / 12
    pairs = zip(angle.numpy(), posterior.numpy(), strict=True)
    expected = -np.mean([np.interp(a, places, p, period=2 * np.pi) for a, p in pairs])
    assert abs(float(angle_loss(orientation, angle, 0.0)) - expected) < 1e-9


def test_with_a_spread_a_search_is_taught_a_von_mises_distribution_about_the_true_angle() -> None:
    score, true = torch.randn(40, 12, dtype=torch.float64), torch.rand(40, dtype=torch.float64) * 30 - 15
    spread = math.radians(25)
    density = stats.vonmises(1 / spread**2).pdf(np.arange(12) * 2 * np.pi / 12 - true.numpy()[:, None])
    target = torch.from_numpy(density / density.sum(1, keepdims=True))
    orientation = Orientation(torch.zeros(40, 1), torch.zeros(40, 1), score.log_softmax(-1))
    torch.testing.assert_close(angle_loss(orientation, true, spread), F.cross_entropy(score, target))
    with pytest.raises(InputError, match="expected 0 or at least half a bin of the posterior, 15 degrees"):
        angle_loss(orientation, true, math.radians(14))
    angle_loss(orientation, true, math.radians(15))
