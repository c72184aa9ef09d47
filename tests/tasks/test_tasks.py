import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import composed
from hydra.utils import instantiate
from scipy import stats
from sklearn.datasets import load_digits

from stnrot.data.batch import Batch
from stnrot.data.rng import Purpose, uniform
from stnrot.geometry import rotate
from stnrot.models.angle_loss import CONCENTRATION
from stnrot.models.outputs import Orientation, Prediction
from stnrot.tasks.angle_error import AngleError
from stnrot.tasks.base import Task
from stnrot.tasks.losses import photometric_loss


def test_the_spread_is_taught_in_training_and_not_tested() -> None:
    """In degrees: numpy's cross-entropy with scipy's distribution of 20 degrees, and the loss at the true angle."""
    config = composed("train", "task=register", "model.reference=learned", "task.angle_spread_deg=20")
    config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    task = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
    posterior, true = torch.randn(8, 64).log_softmax(1), torch.arange(8) * (2 * math.pi / 64)
    prediction = Prediction(Orientation(torch.zeros(8, 1), torch.zeros(8, 1), posterior), None, None, None)
    batch = Batch(torch.arange(8), torch.zeros(8, 1, 28, 28), None, true, None)
    density = stats.vonmises(1 / np.radians(20) ** 2).pdf((np.arange(64) - np.arange(8)[:, None]) * 2 * np.pi / 64)
    taught = -(density / density.sum(1, keepdims=True) * posterior.numpy()).sum(1).mean()
    for training, expected in ((True, taught), (False, -posterior.diagonal().mean())):
        found = task.train(training).losses(prediction, batch)["angle_loss"][1]
        assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_the_consistency_loss_is_small_where_the_prediction_follows() -> None:
    """An encoder that searches is consistent by construction: the posterior of a rotated image has the same peak,
    displaced by the rotation. A regressor that always predicts 0 has the loss of the rotation itself.
    """
    image = torch.stack([torch.from_numpy(p).float() for p in load_digits().images[:8]])[:, None] / 16
    image = F.pad(F.interpolate(image, size=(20, 20), mode="bicubic", align_corners=False), (4, 4, 4, 4))
    batch = Batch(torch.arange(8), image, None, None, None)
    losses, posteriors = {}, {}
    for name in ("polar", "cnn"):
        config = composed("train", f"model/encoder={name}", "task=register", "model.reference=learned")
        config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
        config.task.consistency_weight = 1.0
        task = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
        with torch.no_grad():  # a reference that can be aligned to
            task.model.reference.copy_(image[3:4])
        task.eval()
        with torch.no_grad():
            prediction = task(batch)
            losses[name] = float(task.losses(prediction, batch)["consistency_loss"][1])
        posteriors[name] = prediction.orientation.log_posterior
    rotations = uniform((Purpose.CONSISTENCY,), batch.index, 1)[:, 0].numpy() * 2 * np.pi - np.pi
    assert losses["cnn"] == pytest.approx(CONCENTRATION * np.mean(1 - np.cos(rotations)), rel=1e-4)
    peak = -float(posteriors["polar"].max(1).values.mean())
    assert peak < 0.97 * math.log(64), "that of a flat posterior"
    assert losses["polar"] == pytest.approx(peak, abs=0.03)


def test_photometric_loss_ignores_what_lies_outside_the_disc() -> None:
    image = torch.rand(2, 3, 20, 20)
    changed = image.clone()
    changed[..., :2, :2] = 5
    assert float(photometric_loss(image, changed)) == 0
    changed[..., 10, 10] += 1
    assert float(photometric_loss(image, changed)) > 0


def test_photometric_loss_is_numpys_mean_over_the_disc() -> None:
    image, reference = torch.rand(2, 2, 3, 20, 31).unbind()
    y, x = np.mgrid[:20, :31]
    disc = np.hypot(y - 9.5, x - 15) <= 9.5
    expected = ((image - reference).numpy() ** 2)[..., disc].mean()
    assert float(photometric_loss(image, reference)) == pytest.approx(expected, rel=1e-5)


def test_photometric_loss_is_least_at_the_true_angle() -> None:
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


@pytest.mark.parametrize(("name", "prefix"), [("rot_stn", "encoder."), ("affine_stn", "localisation.")])
def test_the_net_that_predicts_the_transform_has_its_own_learning_rate(name: str, prefix: str) -> None:
    """Its group comes first, both in the order of the names, as in the optimizer states of older checkpoints."""
    config = composed("train", f"model={name}", "task.encoder_lr_factor=0.1", "task.scheduler=null")
    config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    task = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
    groups = task.configure_optimizers().param_groups
    named = list(task.model.named_parameters())
    for group, inside in zip(groups, (True, False), strict=True):
        expected = [parameter for name, parameter in named if name.startswith(prefix) == inside]
        assert expected
        assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in expected]
        assert group["lr"] == pytest.approx(config.task.optimizer.lr * (0.1 if inside else 1))


def test_adam_is_fused_and_equals_torchs_default() -> None:
    """Also after the state of a run that was not fused is loaded, and not if another kernel is chosen."""

    def built(*overrides: str) -> Task:
        cfg = composed("train", "model=cnn", *overrides)
        cfg.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
        return instantiate(cfg.task, model=instantiate(cfg.model)).to(memory_format=torch.channels_last)

    task = built()
    plain = copy.deepcopy(task)
    ours, theirs = task.build_optimizer(), torch.optim.AdamW(plain.model.parameters(), lr=3e-3, weight_decay=1e-2)
    assert ours.param_groups[0]["fused"]
    image, label = torch.rand(8, 1, 28, 28), torch.arange(8)

    def steps() -> None:
        for k, (each, optimizer) in enumerate(2 * [(task, ours), (plain, theirs)]):
            optimizer.zero_grad()
            F.nll_loss(each.model(image + k // 2, None).log_probability, label).backward()
            if each is task:
                known = [p.grad.clone() for p in task.parameters()]
            for p, grad in zip(each.parameters(), known, strict=True):
                p.grad.copy_(grad)
            optimizer.step()

    steps()
    torch.testing.assert_close(task.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-5)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    steps()
    torch.testing.assert_close(task.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-5)
    contiguous = copy.deepcopy(theirs.state_dict())
    for state in contiguous["state"].values():
        state |= {name: each.contiguous() for name, each in state.items()}
    contiguous["param_groups"][0]["fused"] = True
    ours.load_state_dict(contiguous)  # of a model that was not channels last
    steps()
    torch.testing.assert_close(task.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-5)
    for choice in ("fused=false", "foreach=true", "foreach=false", "capturable=true"):
        assert not built(f"+task.optimizer.{choice}").build_optimizer().param_groups[0]["fused"]


def test_a_model_without_a_transform_has_one_learning_rate() -> None:
    config = composed("train", "model=cnn", "task.encoder_lr_factor=0.1", "task.scheduler=null")
    config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    task = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
    (group,) = task.configure_optimizers().param_groups
    assert group["lr"] == config.task.optimizer.lr
    assert len(group["params"]) == len(list(task.model.parameters()))
