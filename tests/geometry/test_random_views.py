"""The mirror image and the rotation are those of torch, the blur and the cosine transform SciPy's."""

import numpy as np
import torch
from scipy.fft import dctn
from scipy.ndimage import correlate1d
from sklearn.datasets import load_sample_image
from torch import Tensor

from stnrot.geometry import RandomViews, angular_distance, inscribed_disc
from stnrot.geometry.jpeg import LUMINANCE, jpeg
from stnrot.geometry.random_views import _blurred

PIXELS = load_sample_image("china.jpg")[100:196, 150:246]
IMAGE = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[None].float() / 255


def views_of(images: Tensor, mirror: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return views of images, and the random angles of these."""
    angle = torch.rand(len(images)) * 6
    views = RandomViews(mirror)
    return views(images, angle, torch.randn(len(images), views.count), "bicubic"), angle


def test_without_the_other_changes_it_is_the_mirror_image_and_the_rotation() -> None:
    # zoom, mirror, blur, gain, offset, quality, shift
    uniform = torch.tensor([0.0, 0.3, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    numbers = torch.special.ndtri(uniform).expand(4, -1)
    angle = torch.arange(4) * torch.pi / 2
    for mirror, image in ((0.2, IMAGE), (0.4, IMAGE.flip(3))):
        views = RandomViews(mirror)(IMAGE.expand(4, -1, -1, -1), angle, numbers, "bicubic")
        expected = torch.cat([torch.rot90(image, k, (2, 3)) for k in range(4)])
        difference = views - jpeg(expected, torch.full((4,), 50.0))
        assert difference.abs().mean() < 1e-3  # here and there a coefficient is rounded the other way


def test_views_are_rotated_by_the_angle_and_no_border_comes_into_the_disc() -> None:
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    spots = torch.stack([torch.exp(-((row - 32) ** 2 + (column - x) ** 2) / 8) for x in (34, 46)])
    views, angle = views_of(30 * spots.expand(32, -1, -1, -1))  # so bright that the rounding of JPEG does not count
    views = views - views.flatten(2).median(2).values[..., None, None]  # the brightness of the background
    places = torch.stack([(views * each).sum((2, 3)) / views.sum((2, 3)) for each in (column, row)], -1)
    right, down = (places[:, 1] - places[:, 0]).T
    assert angular_distance(torch.atan2(-down, right), angle).rad2deg().max() < 1
    ramp, disc = row[:30, :40] + column[:30, :40], inscribed_disc((30, 40))
    plane = torch.stack((torch.ones(30, 40), row[:30, :40], column[:30, :40]), -1)[disc]
    seen = views_of(ramp.expand(64, 1, -1, -1))[0][:, 0, disc].T  # without a border, each view is a plane
    assert (plane @ torch.linalg.lstsq(plane, seen).solution - seen).abs().max() < 0.4


def test_the_blur_of_the_views_is_scipys() -> None:
    expected = IMAGE.numpy()
    for axis in (2, 3):
        expected = correlate1d(expected, [0.25, 0.5, 0.25], axis, mode="nearest")
    torch.testing.assert_close(_blurred(IMAGE), torch.from_numpy(expected))


def test_every_view_is_compressed() -> None:
    """By SciPy's cosine transform, the coefficients of its luminance are multiples of the steps of its quality."""
    numbers = torch.randn(6, RandomViews.count)
    views = RandomViews(0.5)(IMAGE[..., :32, :32].expand(6, -1, -1, -1), torch.rand(6) * 6, numbers, "bicubic")
    for view, quality in zip(views, 25 + 50 * torch.special.ndtr(numbers[:, 5]), strict=True):
        scale = 50 / quality if quality < 50 else 2 - quality / 50
        steps = np.floor(np.array(LUMINANCE) * float(scale) + 0.5)
        luminance = np.tensordot((0.299, 0.587, 0.114), view.double().numpy(), 1)
        blocks = luminance.reshape(4, 8, 4, 8).transpose(0, 2, 1, 3) * 255 - 128
        multiples = dctn(blocks, axes=(2, 3), norm="ortho") / steps
        assert np.abs(multiples - multiples.round()).max() < 0.01
