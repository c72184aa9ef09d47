"""Each view is that of another library: torchvision, Pillow, SciPy and torch.rot90."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import scene
from scipy.ndimage import map_coordinates
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from stnrot.data.leak_views import SCALE, SHIFT, leak_views
from stnrot.geometry import rotate as rotated

QUARTERS = torch.tensor([0, 1, 2, 3])


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.stack([scene(40, 40, 3).roll(k, 2) for k in range(4)])


def test_the_names_and_the_angles_that_rotate_back(image: torch.Tensor) -> None:
    rotation = torch.tensor([0.3, -2.0, 3.0, 0.0])
    views = list(leak_views(image, rotation, QUARTERS))
    assert [view.name for view in views] == [
        *("as trained", "bilinear", "JPEG after the rotation", "scaled first", "quarter turns only")
    ]
    for view in views:
        assert view.image.min() >= 0
        assert view.image.max() <= 1
        reference = (
            image
            if view.name != "scaled first"
            else next(v.image for v in leak_views(image, 0 * rotation, QUARTERS) if v.name == "scaled first")
        )
        back = rotated(view.image, view.angle, "bicubic")
        assert (back - reference)[..., 5:35, 5:35].abs().mean() < 0.03


def test_sampling_and_compression(image: torch.Tensor) -> None:
    rotation = torch.tensor([0.3, -2.0, 3.0, 0.5])
    views = {view.name: view.image for view in leak_views(image, rotation, QUARTERS)}
    for k in range(4):
        expected = rotate(image[k], math.degrees(float(rotation[k])), InterpolationMode.BILINEAR)
        torch.testing.assert_close(views["bilinear"][k], expected, atol=1e-4, rtol=0)
        file = io.BytesIO()
        pixels = (views["as trained"][k] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, "JPEG", quality=75)
        decoded = np.asarray(Image.open(file)).transpose(2, 0, 1) / np.float32(255)
        np.testing.assert_allclose(views["JPEG after the rotation"][k], decoded, atol=1e-6)


def test_the_scaled_view_is_scipys(image: torch.Tensor) -> None:
    views = {view.name: view.image for view in leak_views(image, torch.zeros(4), QUARTERS)}
    y, x = np.mgrid[:40, :40] - 19.5
    places = [y / SCALE + SHIFT[1] * 20 + 19.5, x / SCALE + SHIFT[0] * 20 + 19.5]
    expected = map_coordinates(image[0, 0].numpy(), places, order=3, mode="mirror")
    assert np.abs(views["scaled first"][0, 0].numpy() - expected).mean() < 0.01  # a spline, not a cubic convolution


@pytest.mark.parametrize("size", [(40, 40), (30, 40), (40, 30)])
def test_quarter_turns_sample_nothing(size: tuple[int, int]) -> None:
    image = torch.rand(4, 1, *size)
    view = list(leak_views(image, torch.zeros(4), QUARTERS))[-1]
    middle = image[..., (size[0] - min(size)) // 2 :, (size[1] - min(size)) // 2 :][..., : min(size), : min(size)]
    for k in range(4):
        inside = view.image[k][..., (size[0] - min(size)) // 2 :, (size[1] - min(size)) // 2 :]
        assert torch.equal(inside[..., : min(size), : min(size)], torch.rot90(middle[k], k, (1, 2)))
        assert float(view.image[k].sum()) == pytest.approx(float(middle[k].sum()), rel=1e-5)
    torch.testing.assert_close(view.angle, -QUARTERS * (math.pi / 2))
