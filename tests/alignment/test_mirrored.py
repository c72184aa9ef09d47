"""The report that the mirror image matches: photographs mirrored and rotated by Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from skimage import data
from sklearn.datasets import load_sample_image

from stnrot import align

PHOTOGRAPHS = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), data.astronaut(), data.coffee()]
PARTS = [(k, 40 * step) for k in range(len(PHOTOGRAPHS)) for step in range(5)]


def part(photograph: int, left: int, degrees: float = 0, mirror: bool = False) -> torch.Tensor:
    """Cut a part out, rotate it about its middle, and shrink it."""
    whole = Image.fromarray(PHOTOGRAPHS[photograph]).convert("L").crop((left, 40, left + 280, 320))
    whole = ImageOps.mirror(whole) if mirror else whole
    inner = whole.rotate(degrees, Image.Resampling.BICUBIC).resize(
        (64, 64), Image.Resampling.LANCZOS, (42, 42, 238, 238)
    )
    return torch.from_numpy(np.array(inner))[None]


def batch(mirror: bool = False, degrees: float = 0) -> torch.Tensor:
    return torch.stack([part(*each, degrees + 16 * k, mirror) for k, each in enumerate(PARTS)])


def test_mirrored_photographs_are_found() -> None:
    image = batch()
    found = align(image, batch(mirror=True, degrees=30))
    assert found.mirrored.shape == (len(PARTS),)
    assert found.mirrored.float().mean() >= 0.9
    assert found.confidence.median() < 0.5
    assert align(image.flip(2), batch(mirror=True, degrees=30)).mirrored.float().mean() < 0.1, "mirrored twice"
    one = align(image, batch(mirror=True)[3])
    assert one.mirrored[3]
    assert one.mirrored.sum() < 4


def test_photographs_that_are_not_mirrored_are_not_flagged() -> None:
    image = batch()
    assert not align(image, batch(degrees=70)).mirrored.any()
    assert not align(image, 255 - batch(degrees=70)).mirrored.any(), "negatives"
    assert align(image, batch(degrees=70).roll(7, 0)).mirrored.sum() <= 1, "unrelated"
    noise, other = torch.rand(2, 100, 1, 28, 28)
    assert align(noise, other).mirrored.float().mean() < 0.05


@pytest.mark.parametrize("noise", [0, 0.05])
def test_images_that_are_their_own_mirror_image_are_not_flagged(noise: float) -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    letter_a = (abs(abs(x) - 0.4 * (y + 20)) < 3) & (abs(y) < 20) | (abs(y - 5) < 3) & (abs(x) < 10)
    rings = np.cos(radius / 3) * (radius < 28)
    square = (abs(x) < 15) & (abs(y) < 15)
    star = (radius < 26) * (1 + np.cos(5 * angle)) * (radius > 3)
    random = np.random.default_rng(0)
    for image in (letter_a, rings, square, star):
        turned = ndimage.rotate(image.astype(np.float32), 25, reshape=False, order=1)
        pair = (each + noise * random.normal(size=each.shape) for each in (image[:, ::-1].astype(np.float32), turned))
        assert not align(*pair).mirrored.any()


def test_a_pattern_of_several_arms_has_a_hand() -> None:
    """Its confidence is low both ways, since it has four angles; only the mirrored pair is flagged."""
    y, x = np.mgrid[:64, :64] - 31.5
    arms = sum(
        np.rot90(((abs(x) < 3) & (y > -24) & (y < 0)) | ((abs(y + 21) < 3) & (x > 0) & (x < 14)), k) for k in range(4)
    )
    image = torch.from_numpy(arms.astype(np.float32))
    turned = torch.from_numpy(ndimage.rotate(image.numpy(), 25, reshape=False, order=1))
    assert not align(image, turned).mirrored
    assert align(image.flip(1), turned).mirrored
