import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.datasets import load_sample_image
from torch import nn

from stnrot.geometry import to_polar


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 29, 29), (3, 45, 32), (1, 20, 31)])
def test_values_are_scipys(shape: tuple[int, int, int]) -> None:
    """Compare with a Gaussian filter on an image that scipy enlarged eight times, read at the nearest pixels."""
    channels, height, width = shape
    image = torch.rand(2, *shape)
    polar = to_polar(image, radii=24, angles=40, blur=1.0)  # so fine a grid that no image is made smaller
    radius = (np.arange(24) + 0.5)[:, None] * (min(height, width) - 1) / 48
    direction = np.arange(40) * 2 * np.pi / 40
    y = (height - 1) / 2 - radius * np.sin(direction)
    x = (width - 1) / 2 + radius * np.cos(direction)
    for b in range(2):
        for c in range(channels):
            points = np.zeros(
                (height * 8 + 80, width * 8 + 80)
            )  # each pixel is a point, with a border of 5 black pixels
            points[44 : 44 + 8 * height : 8, 44 : 44 + 8 * width : 8] = image[b, c].numpy() * 64
            blurred = gaussian_filter(points, 8.0, truncate=6)
            expected = map_coordinates(blurred, [44 + 8 * y, 44 + 8 * x], order=3)
            np.testing.assert_allclose(polar[b, c].numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("size", [28, 29, 64, 224])
def test_a_quarter_turn_is_a_shift(size: int) -> None:
    """torch.rot90 does not resample, so the shift is exact."""
    image = torch.rand(2, 3, size, size)
    for quarters in (1, 2, 3):
        rotated = to_polar(torch.rot90(image, quarters, (2, 3)), 16, 64, 0.8)
        torch.testing.assert_close(rotated, to_polar(image, 16, 64, 0.8).roll(16 * quarters, -1), atol=1e-4, rtol=0)


def test_the_pixel_grid_leaves_no_trace() -> None:
    """The polar image of a sampled sine of any direction is that of the sine itself, for any pixel grid."""
    y, x = torch.meshgrid(*[torch.arange(28.0, dtype=torch.float64) - 13.5] * 2, indexing="ij")
    residue = {}
    for blur in (0.3, 0.8):
        worst = 0.0
        for degrees in range(0, 90, 7):
            c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            wave = torch.sin(0.9 * (c * x + s * y)) * torch.exp(-(x**2 + y**2) / 50)
            polar = to_polar(wave[None, None], 16, 72, blur)[0, 0, :11]
            radius = (torch.arange(11) + 0.5)[:, None] * (27 / 32)
            direction = torch.arange(72) * (2 * math.pi / 72)
            px, py = radius * direction.cos(), -radius * direction.sin()
            spread = 25.0  # squared width of the envelope: its product with the blur is a Gaussian in closed form
            shrink = spread / (spread + blur**2)
            flat = math.exp(-0.5 * 0.81 * blur**2 * shrink)
            envelope = torch.exp(-(px**2 + py**2) / (2 * (spread + blur**2)))
            exact = shrink * flat * torch.sin(0.9 * shrink * (c * px + s * py)) * envelope
            worst = max(worst, float((polar - exact).abs().max()))
        residue[blur] = worst
    assert residue[0.8] < 2e-3
    assert residue[0.3] > 0.05


@pytest.mark.parametrize("size", [(200, 300), (301, 225)])
def test_large_images_are_averaged_not_skipped(size: tuple[int, int]) -> None:
    """A grid coarser than the pixels equals scipy's Gaussian filter of the same width, on a photograph."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).convert("L").resize(size[::-1])
    pixels = np.asarray(photograph, dtype=np.float64) / 255
    height, width = size
    polar = to_polar(torch.from_numpy(pixels)[None, None], 16, 24, 0.8)[0, 0].numpy()
    pixel = min(size) / 32
    radius = (np.arange(16) + 0.5)[:, None] * (min(size) - 1) / 32
    direction = np.arange(24) * 2 * np.pi / 24
    places = [(height - 1) / 2 - radius * np.sin(direction), (width - 1) / 2 + radius * np.cos(direction)]
    blurred = gaussian_filter(pixels, pixel * math.hypot(0.8, 0.41), mode="constant")  # 0.41: the blur of the reduction
    expected = map_coordinates(blurred, places, order=1)
    assert np.abs(polar - expected)[:-2].max() < 0.03
    assert np.median(np.abs(polar - expected)) < 0.002


def test_a_halo_is_circular_padding() -> None:
    image = torch.rand(2, 1, 28, 28)
    one, two = nn.Conv2d(1, 4, 3, padding=(1, 0)), nn.Conv2d(4, 2, 3, padding=(1, 0))
    with torch.no_grad():
        got = two(one(to_polar(image, 12, 20, halo=2, blur=0.8)).relu())
        here = to_polar(image, 12, 20, 0.8)
        for conv in (one, two):
            padded = F.pad(F.pad(here, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
            here = F.conv2d(padded, conv.weight, conv.bias)
            here = here.relu() if conv is one else here
    torch.testing.assert_close(got, here, atol=1e-5, rtol=1e-5)


def test_the_gradient_reaches_the_pixels() -> None:
    image = torch.rand(1, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: to_polar(x, 5, 7, 0.8, halo=1), (image,))
    assert torch.autograd.gradcheck(lambda x: to_polar(x, 2, 7, 0.8, halo=1), (image,))


def test_coordinates_are_never_in_16_bits() -> None:
    image = torch.rand(2, 1, 224, 224).bfloat16()
    exact = to_polar(image.float(), 16, 64, 0.8)
    torch.testing.assert_close(to_polar(image, 16, 64, 0.8).float(), exact, atol=0.01, rtol=0)


def test_a_centre_beside_the_image_centre() -> None:
    """Compare with an image that torch.roll moved the other way; the shares are of the shorter side."""
    image = F.pad(torch.rand(2, 3, 20, 40), (10, 10, 10, 10))
    moved = torch.roll(image, (4, -2), (2, 3))  # down, right
    found = to_polar(image, 10, 24, 0.8, centre=(2 / 40, -4 / 40))
    torch.testing.assert_close(found, to_polar(moved, 10, 24, 0.8), atol=1e-5, rtol=0)


def test_smaller_circles_are_those_of_a_part() -> None:
    """Compare with the crop whose inscribed disc the smaller circles fill."""
    image = torch.rand(2, 3, 41, 41)
    crop = image[..., 8:-8, 8:-8]  # 25 pixels: 24 of 40 between the outermost
    found = to_polar(image, 24, 32, 0.5, share=0.6)
    inner = slice(0, 20)  # their Gaussian does not reach beyond the crop
    torch.testing.assert_close(found[:, :, inner], to_polar(crop, 24, 32, 0.5)[:, :, inner], atol=1e-3, rtol=0)
