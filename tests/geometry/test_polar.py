import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_sample_image
from torch import nn

from stnrot.geometry import to_polar

SIZES = [(1, 28, 28), (3, 29, 29), (3, 45, 32), (1, 20, 31)]


@pytest.mark.parametrize("shape", SIZES)
def test_samples_are_scipys(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    image = torch.rand(2, *shape)
    polar = to_polar(image, radii=24, angles=40)  # finer than the pixels of every size: plain sampling
    radius = (np.arange(24) + 0.5)[:, None] * (min(height, width) - 1) / 48
    direction = np.arange(40) * 2 * np.pi / 40
    y = (height - 1) / 2 - radius * np.sin(direction)
    x = (width - 1) / 2 + radius * np.cos(direction)
    for b in range(2):
        for c in range(channels):
            expected = map_coordinates(image[b, c].double().numpy(), [y, x], order=1, mode="constant")
            np.testing.assert_allclose(polar[b, c].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [28, 29, 64, 224])
def test_a_quarter_turn_is_a_shift(size: int) -> None:
    """torch.rot90 turns without resampling, so the shift is exact, at every fineness."""
    image = torch.rand(2, 3, size, size)
    for quarters in (1, 2, 3):
        turned = to_polar(torch.rot90(image, quarters, (2, 3)), 16, 64)
        torch.testing.assert_close(turned, to_polar(image, 16, 64).roll(16 * quarters, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(200, 300), (301, 225)])
def test_large_pictures_are_averaged_not_skipped(size: tuple[int, int]) -> None:
    """A grid coarser than the pixels equals the mean over each cell, by brute force."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).convert("L").resize(size[::-1])
    pixels = np.asarray(photograph, dtype=np.float64) / 255
    height, width = size
    polar = to_polar(torch.from_numpy(pixels)[None, None], 8, 24)[0, 0].numpy()
    many = 64
    radius = (np.arange(8 * many) + 0.5)[:, None] * (min(size) - 1) / (16 * many)
    direction = (np.arange(24 * many) - (many - 1) / 2) * 2 * np.pi / (24 * many)
    y = (height - 1) / 2 - radius * np.sin(direction)
    x = (width - 1) / 2 + radius * np.cos(direction)
    dense = map_coordinates(pixels, [y, x], order=1).reshape(8, many, 24, many).mean((1, 3))
    assert np.abs(polar - dense).max() < 0.05
    assert np.abs(polar - dense).mean() < 0.005


def test_a_halo_is_circular_padding() -> None:
    image = torch.rand(2, 1, 28, 28)
    one, two = nn.Conv2d(1, 4, 3, padding=(1, 0)), nn.Conv2d(4, 2, 3, padding=(1, 0))
    with torch.no_grad():
        got = two(one(to_polar(image, 12, 20, halo=2)).relu())
        here = to_polar(image, 12, 20)
        for conv in (one, two):
            padded = F.pad(F.pad(here, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
            here = F.conv2d(padded, conv.weight, conv.bias)
            here = here.relu() if conv is one else here
    torch.testing.assert_close(got, here, atol=1e-5, rtol=1e-5)


def test_the_gradient_reaches_the_pixels() -> None:
    image = torch.rand(1, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: to_polar(x, 5, 7, halo=1), (image,))
    assert torch.autograd.gradcheck(lambda x: to_polar(x, 2, 7, halo=1), (image,))
    assert math.isfinite(to_polar(image.float().bfloat16(), 4, 8).float().sum().item())
