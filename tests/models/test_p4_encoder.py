import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry import wrap
from stnrot.models.encoders.p4 import P4Encoder
from stnrot.models.p4_conv import P4Conv


def trained(conv: P4Conv) -> P4Conv:
    """Return a convolution in evaluation, with statistics and a norm that are not those of a new one."""
    with torch.no_grad():
        conv.scale.uniform_(0.5, 2)
        conv.shift.normal_()
    conv.train()(3 * torch.randn(2, conv.kernel.shape[1], 8, 8) + 1)
    return conv.eval()


def moved(maps: Tensor, turns: int) -> Tensor:
    """Return the maps of an image that is rotated by quarter turns, from those of the image."""
    return torch.rot90(maps.unflatten(1, (-1, 4)).roll(turns, 2).flatten(1, 2), turns, (2, 3))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_quarter_turn_moves_the_maps(first: bool, pooled: bool) -> None:
    conv = trained(P4Conv(3, 5, first=first, pooled=pooled))
    image = torch.rand(2, 3 if first else 12, 8, 12)
    for turns in range(4):
        rotated = torch.rot90(image, turns, (2, 3)) if first else moved(image, turns)
        torch.testing.assert_close(conv(rotated), moved(conv(image), turns), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"kernel": 8, "padding": 0}])  # the second covers the whole map
def test_direction_0_is_a_plain_convolution_and_a_plain_batch_norm(options: dict[str, int]) -> None:
    conv = P4Conv(3, 5, first=True, **options)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(conv.scale.uniform_(0.5, 2))
        norm.bias.copy_(conv.shift.normal_())
    image = torch.rand(4, 3, 8, 8)
    expected = norm(F.conv2d(image, conv.kernel, padding=options.get("padding", 1)))
    found = conv(image)[:, ::4]
    torch.testing.assert_close(found, expected)
    for state in ("running_mean", "running_var"):
        torch.testing.assert_close(conv.norm.state_dict()[state][::4], norm.state_dict()[state])
    assert conv.norm.num_batches_tracked == norm.num_batches_tracked == 1
    upstream = torch.randn_like(found)
    slopes = torch.autograd.grad(found, (conv.scale, conv.shift, conv.kernel), upstream)
    truth = torch.autograd.grad(expected, (norm.weight, norm.bias, conv.kernel), upstream)
    torch.testing.assert_close(slopes, truth, atol=1e-4, rtol=1e-4)


def test_pooling_is_that_of_torch() -> None:
    conv = trained(P4Conv(2, 3, pooled=True))
    image = torch.rand(2, 8, 6, 6)
    pooled = conv(image)
    conv.pooled = False
    torch.testing.assert_close(pooled, F.avg_pool2d(conv(image), 2))


@pytest.mark.parametrize("shape", [(32, 32), (48, 40), (20, 60)])
def test_a_quarter_turn_shifts_the_posterior(shape: tuple[int, int]) -> None:
    encoder = P4Encoder(3, width=4, side=32, angles=24, dropout=0.5, mirrored=False).eval()
    image, reference = torch.rand(2, 3, *shape), torch.randn(1, *encoder.feature_shape)
    posterior = encoder(image, reference, 2).log_posterior
    for turns in range(1, 4):
        found = encoder(torch.rot90(image, turns, (2, 3)), reference, 2).log_posterior
        torch.testing.assert_close(found, posterior.roll(-6 * turns, 1), atol=1e-4, rtol=1e-4)


def test_the_mirror_image_has_the_negative_angle() -> None:
    encoder = P4Encoder(3, width=4, side=32, angles=24, dropout=0.5, mirrored=True).eval()
    image, reference = torch.rand(2, 3, 32, 32), torch.randn(1, *encoder.feature_shape)
    posterior = encoder(image, reference, 1).log_posterior
    expected = torch.cat((posterior[:, :1], posterior[:, 1:].flip(1)), 1)
    torch.testing.assert_close(encoder(image.flip(3), reference, 1).log_posterior, expected, atol=1e-4, rtol=1e-4)
    turned = encoder(torch.rot90(image, 1, (2, 3)), reference, 1).log_posterior
    torch.testing.assert_close(turned, posterior.roll(-6, 1), atol=1e-4, rtol=1e-4)
    encoder.mirrored = False
    assert not torch.allclose(encoder(image, reference, 1).log_posterior, posterior, atol=1e-3)


def test_an_image_as_the_reference_is_found_at_its_angle() -> None:
    """Rotate by Pillow, untrained, with the image itself as the reference: the bins are 5.6 degrees wide."""
    photograph = Image.fromarray(load_sample_images().images[0]).crop((100, 50, 520, 420))
    degrees = np.arange(0, 360, 22.5)
    stack = [np.array(photograph.rotate(float(a), Image.Resampling.BICUBIC).resize((48, 48))) for a in degrees]
    images = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2).float() / 255
    torch.manual_seed(0)
    encoder = P4Encoder(3, width=8, side=32, angles=64, dropout=0.0, mirrored=False).eval()
    with torch.no_grad():
        angle = encoder(images, images[:1], 1).angle[:, 0]
    assert wrap(angle + torch.from_numpy(degrees).deg2rad()).abs().rad2deg().max() < 3


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("side", 20, "side=20: expected a multiple of 8"),
        ("angles", 30, "angles=30: expected a multiple of 4"),
        ("width", 0, "width"),
        ("dropout", 1.0, "dropout"),
    ],
)
def test_bad_options_are_one_line(option: str, value: float, message: str) -> None:
    options: dict[str, Any] = {"channels": 3, "width": 4, "side": 32, "angles": 64, "dropout": 0.1, "mirrored": False}
    with pytest.raises(InputError, match=message):
        P4Encoder(**options | {option: value})


def test_references_that_do_not_fit_are_one_line() -> None:
    encoder = P4Encoder(1, width=4, side=16, angles=16, dropout=0.0, mirrored=False).eval()
    with pytest.raises(InputError, match=r"reference: expected features \[2 or 1, 128, 4\]"):
        encoder(torch.rand(2, 1, 16, 16), torch.rand(1, 8, 4), 1)
    with pytest.raises(InputError, match=r"model\.hypotheses=17"):
        encoder(torch.rand(2, 1, 16, 16), torch.rand(1, *encoder.feature_shape), 17)


def test_all_weights_learn() -> None:
    encoder = P4Encoder(1, width=2, side=16, angles=16, dropout=0.1, mirrored=False).train()
    reference = nn.Parameter(0.1 * torch.randn(1, *encoder.feature_shape))
    found = encoder(torch.rand(4, 1, 16, 16), reference, 1)
    found.log_posterior[:, 3].sum().backward()
    assert math.isfinite(found.angle.sum().item())
    for each in (*encoder.parameters(), reference):
        assert each.grad is not None
        assert each.grad.abs().sum() > 0
