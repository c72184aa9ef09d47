import numpy as np
import pytest
import torch
from conftest import model

from stnrot.geometry import rotate
from stnrot.models.ensemble import Ensemble
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation


@pytest.mark.parametrize("options", [("rot_stn",), ("rot_stn", "model/encoder=cnn"), ("cnn",)])
def test_an_ensemble_has_the_mean_of_its_members_probabilities(options: tuple[str, ...]) -> None:
    members = [model(*options).eval() for _ in range(3)]
    image = torch.rand(20, 1, 28, 28)
    with torch.no_grad():
        together = Ensemble(members, same_upright=True)(image, None)
        apart = Ensemble(members, same_upright=False)(image, None)
        alone = [member(image, None) for member in members]
    expected = np.mean([np.exp(each.log_probability.double().numpy()) for each in alone], 0)
    np.testing.assert_allclose(np.exp(together.log_probability.numpy()), expected, rtol=1e-4)
    assert torch.equal(apart.log_probability, together.log_probability)
    assert apart.orientation is None
    if together.orientation is not None:
        np.testing.assert_allclose(together.orientation.log_weight.exp().sum(1), 1, rtol=1e-5)
        rotated = rotate(image, together.orientation.angle[:, 0])
        torch.testing.assert_close(together.aligned, rotated, atol=1e-5, rtol=0)
        if together.orientation.log_posterior is not None:
            expected = np.mean([each.orientation.log_posterior.double().exp().numpy() for each in alone], 0)
            np.testing.assert_allclose(together.orientation.log_posterior.exp().numpy(), expected, rtol=1e-3, atol=1e-6)


class Fixed(Model):
    """Return fixed hypotheses."""

    aligns_to_batch, learns_angle = True, True

    def __init__(self, angles: list[float], weights: list[float]) -> None:
        super().__init__()
        self.orientation = Orientation(torch.tensor([angles]), torch.tensor([weights]).log(), None)

    def orient(self, image: torch.Tensor, reference: torch.Tensor) -> tuple[Orientation, torch.Tensor]:
        return self.orientation, reference


def test_members_that_agree_outvote_a_confident_one() -> None:
    members = [Fixed([0.0, 3.1], [0.8, 0.2]), Fixed([0.01, 3.1], [0.8, 0.2]), Fixed([3.1, 0.0], [0.9, 0.1])]
    reference = torch.rand(1, 1, 8, 8)
    orientation, shown = Ensemble(members, same_upright=True).orient(reference, reference)
    assert orientation.angle[0, 0].abs() <= 0.01
    assert torch.equal(shown, reference)
    np.testing.assert_allclose(orientation.log_weight.exp()[0], np.array([0.8, 0.1, 0.8, 0.2, 0.2, 0.9]) / 3, rtol=1e-5)
    alike = [Fixed([0.5], [1.0]), Fixed([0.1], [1.0]), Fixed([0.12], [1.0])]
    orientation, _ = Ensemble(alike, same_upright=True).orient(reference, reference)
    assert orientation.angle[0, 0] == pytest.approx(0.11, abs=0.011)
