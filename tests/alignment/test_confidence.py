"""The confidence of `align` without a model: spots drawn by NumPy, and photographs rotated and shifted by SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data, transform

from stnrot import align

PAIRS = 40
PHOTOGRAPHS = [transform.rescale(each / 255, 0.5) for each in (data.camera(), data.gravel(), data.brick(), data.moon())]


def spots(random: np.random.Generator, side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw spots at random places in the disc, and the same spots, rotated counter-clockwise by 50 degrees."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.sqrt(random.uniform(size=count)) * (side / 2 - 4)
    angle, size = random.uniform(0, 2 * np.pi, count), random.uniform(1.5, 3, count)
    image, turned = (
        sum(
            np.exp(-((x - r * np.cos(a + turn)) ** 2 + (y + r * np.sin(a + turn)) ** 2) / (2 * s**2))
            for r, a, s in zip(radius, angle, size, strict=True)
        )
        for turn in (0, np.radians(50))
    )
    return image, turned


@pytest.mark.parametrize("side", [28, 64, 128])
def test_a_few_spots_that_match_by_chance(side: int) -> None:
    """Two unrelated images of a few spots often have one spot at the same radius."""
    random = np.random.default_rng(side)
    for count in (2, 3, 5):
        drawn = [spots(random, side, count) for _ in range(PAIRS)]
        image, turned = (np.stack(each)[..., None] for each in zip(*drawn, strict=True))
        true = align(image, turned)
        assert true.confidence.mean() > 0.97
        torch.testing.assert_close(
            true.angle.rad2deg(), torch.full((PAIRS,), 50.0, dtype=true.angle.dtype), atol=0.2, rtol=0
        )
        assert align(image, np.roll(turned, 1, 0)).confidence.mean() < 0.2, "unrelated"


@pytest.mark.parametrize(("noise", "shift"), [(0.05, 0), (0.3, 2), (0.05, 4)])
def test_the_confidence_is_about_the_share_that_is_right(noise: float, shift: float) -> None:
    """Of photographs with noise, and shifted by up to so many of 64 pixels."""
    random = np.random.default_rng(0)
    images, references, angles = [], [], random.uniform(-180, 180, PAIRS)
    for k, degrees in enumerate(angles):
        whole = PHOTOGRAPHS[k % len(PHOTOGRAPHS)]
        top, left = random.integers(0, 256 - 96, 2)
        part = whole[top : top + 96, left : left + 96]
        turned = ndimage.shift(ndimage.rotate(part, degrees, reshape=False), random.uniform(-shift, shift, 2))
        for each, to in ((part, images), (turned, references)):
            to.append(each[16:80, 16:80] + noise * random.standard_normal((64, 64)))
    found = align(np.stack(images)[..., None], np.stack(references)[..., None])
    error = (found.angle.rad2deg().numpy() - angles + 180) % 360 - 180
    assert found.confidence.mean().item() == pytest.approx((abs(error) < 5).mean(), abs=0.2)
