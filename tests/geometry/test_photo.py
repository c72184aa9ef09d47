"""The sampling is checked with torchvision and torch.flip, the colours with torchvision, the draws with SciPy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import model
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.geometry.photo import PhotoAugment

NONE = {"area": 1.0, "aspect": 1.0, "mirror": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "erase": 0.0}


def photo(**strength: float) -> PhotoAugment:
    return PhotoAugment(**(NONE | strength))


def draws(count: int, **uniform: float) -> torch.Tensor:
    """Return normal numbers; those that are named (u0, u1, ...) stand for the same uniform number in all images."""
    numbers = torch.randn(count, PhotoAugment.count)
    for name, value in uniform.items():
        numbers[:, int(name[1:])] = torch.special.ndtri(torch.tensor(value))
    return numbers


def test_without_strength_it_is_the_rotation() -> None:
    image, angle = torch.rand(5, 3, 20, 30), torch.rand(5) * 6
    torch.testing.assert_close(photo()(image, angle, draws(5)), rotate(image, angle), atol=1e-5, rtol=0)


def test_a_crop_is_torchvisions() -> None:
    """Of 40 x 40 pixels, the middle of the crop of 20 x 20 is 10 pixels right of the centre and 6 below it."""
    image = torch.rand(2, 3, 40, 40)
    numbers = draws(2, u0=1e-6, u2=(10 / 10 + 1) / 2 - 1e-7, u3=(6 / 10 + 1) / 2)
    cropped = photo(area=0.25)(image, torch.zeros(2), numbers)
    expected = F.resized_crop(image, 16, 20, 20, 20, [40, 40], InterpolationMode.BILINEAR, antialias=False)
    torch.testing.assert_close(cropped[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("quarters", [0, 1, 3])
def test_the_mirror_image_is_that_of_the_upright_image(quarters: int) -> None:
    image = torch.rand(3, 3, 24, 24)
    angle = torch.full((3,), quarters * math.pi / 2)
    mirrored = photo(mirror=1.0)(image, angle, draws(3))
    upright = torch.rot90(image, quarters, (2, 3))
    torch.testing.assert_close(mirrored, upright.flip(3), atol=1e-4, rtol=0)
    crop = {"u0": 0.3, "u1": 0.2, "u2": 0.7, "u3": 0.4}
    both = photo(mirror=1.0, area=0.4, aspect=1.5)(image, angle, draws(3, **crop))
    plain = photo(area=0.4, aspect=1.5)(upright, torch.zeros(3), draws(3, **crop))
    torch.testing.assert_close(both, plain.flip(3), atol=1e-4, rtol=0)


def test_crops_have_the_requested_sizes_and_stay_inside() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 21) * 20 / 21, torch.linspace(-1, 1, 21) * 20 / 21, indexing="ij")
    ramp = (torch.stack((x, y))[None] + 1) / 2
    numbers = torch.randn(2000, PhotoAugment.count)
    cropped = photo(area=0.3, aspect=1.5)(ramp.expand(2000, -1, -1, -1), torch.zeros(2000), numbers)
    width = (cropped[:, 0, 10, 11] - cropped[:, 0, 10, 9]) * 21 / 2  # share of the image
    height = (cropped[:, 1, 11, 10] - cropped[:, 1, 9, 10]) * 21 / 2
    inside = (width < 0.99) & (height < 0.99)
    area = (width * height)[inside].numpy()
    assert 0.3 - 1e-3 < area.min() < 0.32
    assert (width / height).max() < 1.5 + 1e-2
    assert (height / width).max() < 1.5 + 1e-2
    middle = cropped[:, 0, 10, 10]
    assert (middle - width / 2).min() > -1e-3
    assert (middle + width / 2).max() < 1 + 1e-3
    square = photo(area=0.3)(ramp.expand(2000, -1, -1, -1), torch.zeros(2000), numbers)
    area = ((square[:, 0, 10, 11] - square[:, 0, 10, 9]) * 21 / 2).square().numpy()
    assert stats.kstest((area - 0.3) / 0.7, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "place", "adjust"),
    [
        ("brightness", 5, F.adjust_brightness),
        ("contrast", 6, F.adjust_contrast),
        ("saturation", 7, F.adjust_saturation),
    ],
)
def test_colours_are_those_of_torchvision(name: str, place: int, adjust: Any) -> None:
    image, numbers = torch.rand(6, 3, 20, 20), draws(6)
    changed = photo(**{name: 0.8})(image, torch.zeros(6), numbers)
    factors = 1 + 0.8 * (2 * torch.from_numpy(stats.norm.cdf(numbers[:, place].numpy())) - 1)
    for one, factor, found in zip(image, factors, changed, strict=True):
        torch.testing.assert_close(found, adjust(one, float(factor)), atol=2e-3, rtol=0)


def test_grey_images_keep_their_saturation() -> None:
    image = torch.rand(4, 1, 20, 20)
    torch.testing.assert_close(photo(saturation=1.0)(image, torch.zeros(4), draws(4)), image, atol=1e-5, rtol=0)
    grey = photo(contrast=1.0)(image, torch.zeros(4), draws(4, u6=0.25))
    torch.testing.assert_close(grey[0], F.adjust_contrast(image[0], 0.5), atol=1e-4, rtol=0)


def test_a_rectangle_is_erased() -> None:
    image = torch.rand(3000, 3, 24, 32)
    erased = photo(erase=0.3)(image, torch.zeros(3000), draws(3000))
    changed = ((erased - image).abs() > 1e-3).any(1)
    share = changed.flatten(1).float().mean(1)
    assert float((share > 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert share.max() < 0.4
    for k in share.nonzero()[:50, 0]:
        rows, columns = changed[k].any(1), changed[k].any(0)
        assert torch.equal(changed[k], rows[:, None] & columns)
        assert (rows.nonzero()[-1] - rows.nonzero()[0] + 1) == rows.sum()
        inside = erased[k][:, changed[k]]
        np.testing.assert_allclose(inside, image[k].mean((1, 2))[:, None].expand_as(inside), atol=1e-5)


def test_the_gradient_in_the_angle_and_coordinates_in_16_bits() -> None:
    strong = photo(area=0.5, aspect=1.3, mirror=0.5, brightness=0.2, contrast=0.2, saturation=0.2, erase=0.5)
    numbers, angle = draws(3), torch.tensor([0.5, 2.0, -1.0], requires_grad=True)
    image = F.gaussian_blur(torch.rand(3, 3, 40, 40), [9, 9])
    found = strong(image, angle, numbers)
    found.square().mean().backward()
    assert angle.grad is not None
    assert (angle.grad != 0).all()
    coarse = strong(image.bfloat16(), angle.detach().bfloat16(), numbers)
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - found).abs().mean() < 0.01


def test_the_model_augments_in_training_by_torchs_generator() -> None:
    small = ("model/augment=photo", "model.encoder.width=4", "model.classifier.width=4")
    stn = model("rot_stn", *small, shape=(3, 32, 32))
    image = torch.rand(8, 3, 32, 32)
    seen: list[torch.Tensor] = []
    stn.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        stn.train()(image, None)
    assert torch.equal(seen[0], seen[1])
    assert seen[0].shape != seen[2].shape or not torch.equal(seen[0], seen[2])
    stn.eval()(image, None)
    assert seen[3].shape[1:] == (3, 32, 32)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"area": 0}, "area=0: expected"), ({"aspect": 0.5}, "aspect=0.5: expected"), ({"erase": 2}, "erase=2: expected")],
)
def test_a_strength_outside_its_range(option: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        photo(**option)
