import copy
import math
import pickle
from dataclasses import fields, replace

import pytest
import torch

from stnrot.geometry import rotate
from stnrot.models import outputs
from stnrot.models.outputs import Orientation, Prediction, RotatedPrediction


def orientation(count: int, start: float, bins: int | None = 5) -> Orientation:
    angle = start + torch.arange(2.0 * count).view(count, 2)
    posterior = None if bins is None else start + torch.rand(count, bins)
    return Orientation(angle=angle, log_weight=-angle, log_posterior=posterior)


def test_cat_joins_each_field_along_the_batch() -> None:
    one, two = orientation(3, 0.0), orientation(1, 10.0)
    joined = Orientation.cat([one, two])
    assert torch.equal(joined.angle, torch.cat([one.angle, two.angle]))
    assert torch.equal(joined.log_weight, torch.cat([one.log_weight, two.log_weight]))
    assert torch.equal(joined.log_posterior, torch.cat([one.log_posterior, two.log_posterior]))


def test_where_takes_whole_samples() -> None:
    new, old = orientation(3, 0.0), orientation(3, 10.0)
    mixed = Orientation.where(torch.tensor([True, False, True]), new, old)
    for name in ("angle", "log_weight", "log_posterior"):
        value, first, second = (getattr(each, name) for each in (mixed, new, old))
        assert torch.equal(value, torch.stack([first[0], second[1], first[2]]))


def test_a_posterior_may_be_absent_from_all_parts_or_from_none() -> None:
    none, some = orientation(3, 0.0, bins=None), orientation(3, 10.0)
    assert Orientation.cat([none, none]).log_posterior is None
    assert Orientation.where(torch.ones(3, dtype=torch.bool), none, none).log_posterior is None
    with pytest.raises(ValueError, match="log_posterior: expected a tensor in all parts or in none, got 1 None"):
        Orientation.cat([some, none])


def test_the_aligned_image_is_computed_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(outputs, "rotate", lambda *each: calls.append(each) or rotate(*each))
    image, angle = torch.rand(2, 1, 9, 9), torch.tensor([[math.pi / 2, 1.0], [math.pi, 0.0]], requires_grad=True)
    prediction = RotatedPrediction(image, Orientation(angle, torch.zeros(2, 2), None), None, None)
    assert not calls
    turned = torch.stack([torch.rot90(image[0], 1, (1, 2)), torch.rot90(image[1], 2, (1, 2))])
    torch.testing.assert_close(prediction.aligned.detach(), turned, atol=1e-5, rtol=0)
    assert prediction.aligned is prediction.aligned
    assert len(calls) == 1
    assert torch.autograd.grad(prediction.aligned.square().sum(), angle)[0][:, 0].all()
    assert [field.name for field in fields(prediction)] == [field.name for field in fields(Prediction)]


def test_a_rotated_prediction_can_be_copied_pickled_and_changed() -> None:
    image = torch.rand(2, 1, 9, 9)
    prediction = RotatedPrediction(image, Orientation(torch.zeros(2, 1), torch.zeros(2, 1), None), None, None)
    for other in (copy.copy(prediction), copy.deepcopy(prediction), pickle.loads(pickle.dumps(prediction))):
        torch.testing.assert_close(other.aligned, image)
    logits = torch.zeros(2, 3)
    changed = replace(prediction, log_probability=logits)
    assert changed.log_probability is logits
    assert changed.aligned is prediction.aligned
