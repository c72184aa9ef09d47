import math

import numpy as np
import pytest
import torch
from conftest import composed
from hydra.utils import instantiate

from stnrot.geometry import rotate
from stnrot.tasks.angle_error import AngleError
from stnrot.tasks.losses import angle_loss, photometric_loss


def test_angle_loss_is_one_minus_the_cosine() -> None:
    predicted, true = torch.randn(2, 50, dtype=torch.float64) * 10
    expected = np.mean(1 - np.cos(predicted.numpy() - true.numpy()))
    assert abs(float(angle_loss(predicted, true)) - expected) < 1e-12
    assert torch.autograd.gradcheck(angle_loss, (predicted.requires_grad_(), true))


def test_photometric_loss_ignores_what_lies_outside_the_disc() -> None:
    image = torch.rand(2, 3, 20, 20)
    changed = image.clone()
    changed[..., :2, :2] = 5
    assert float(photometric_loss(image, changed)) == 0
    changed[..., 10, 10] += 1
    assert float(photometric_loss(image, changed)) > 0


def test_photometric_loss_finds_the_turn() -> None:
    ramp = torch.linspace(0, 1, 24)[None, None, None].expand(1, 1, 24, 24).contiguous()
    angles = torch.linspace(-1, 1, 21)
    losses = [float(photometric_loss(rotate(rotate(ramp, torch.tensor([0.3])), -a[None]), ramp)) for a in angles]
    assert abs(float(angles[int(np.argmin(losses))]) - 0.3) < 0.06


@pytest.mark.parametrize("relative", [False, True])
def test_angle_error_is_numpys(relative: bool) -> None:
    true = torch.rand(500) * 6
    error = 0.02 * torch.randn(500) + 2.5
    metric = AngleError(relative)
    for part in zip((true + error).split(77), true.split(77), strict=True):
        metric.update(part[0] + 2 * math.pi, part[1])
    result = {name: float(value) for name, value in metric.compute().items()}
    expected = np.degrees(np.abs(error.numpy() - (np.angle(np.exp(1j * error.numpy()).sum()) if relative else 0)))
    prefix = "angle_dispersion" if relative else "angle"
    np.testing.assert_allclose(result[f"{prefix}_mean_deg"], expected.mean(), rtol=1e-3)
    np.testing.assert_allclose(result[f"{prefix}_median_deg"], np.median(expected), rtol=1e-3)
    np.testing.assert_allclose(result[f"{prefix}_p95_deg"], np.quantile(expected, 0.95), rtol=1e-3)
    assert abs(result[f"{prefix}_within_5deg"] - np.mean(expected <= 5)) < 0.01


def test_the_encoder_has_its_own_learning_rate() -> None:
    config = composed("train", "task.encoder_lr_factor=0.1", "task.scheduler=null")
    config.images = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    task = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
    optimizer = task.configure_optimizers()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in task.model.named_parameters():
        expected = config.task.optimizer.lr * (0.1 if name.startswith("encoder.") else 1)
        assert rates[id(parameter)] == pytest.approx(expected), name
    assert len(rates) == len(list(task.parameters()))
