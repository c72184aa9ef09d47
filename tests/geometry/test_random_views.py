"""The mirror image and the rotation are those of torch, the blur is SciPy's."""

import torch
from scipy.ndimage import correlate1d
from sklearn.datasets import load_sample_image
from torch import Tensor

from stnrot.geometry import RandomViews, angular_distance, inscribed_disc
from stnrot.geometry.jpeg import jpeg
from stnrot.geometry.random_views import _blurred

PIXELS = load_sample_image("china.jpg")[100:196, 150:246]
IMAGE = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[None].float() / 255


def views_of(images: Tensor, mirror: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return views of images, and the random angles of these."""
    angle = torch.rand(len(images)) * 6
    views = RandomViews(mirror)
    return views(images, angle, torch.randn(len(images), views.count), "bicubic"), angle


def test_without_the_other_changes_it_is_the_mirror_image_and_the_rotation() -> None:
    uniform = torch.tensor(
        [0.0, 0.3, 0.0, 0.5, 0.5, 1.0, 0.5, 0.5, 0.5]
    )  # zoom, mirror, blur, gain, offset, JPEG, shift
    numbers = torch.special.ndtri(uniform).expand(4, -1)
    angle = torch.arange(4) * torch.pi / 2
    for mirror, image in ((0.2, IMAGE), (0.4, IMAGE.flip(3))):
        views = RandomViews(mirror)(IMAGE.expand(4, -1, -1, -1), angle, numbers, "bicubic")
        expected = torch.cat([torch.rot90(image, k, (2, 3)) for k in range(4)])
        torch.testing.assert_close(views, expected, atol=1e-4, rtol=0)


def test_views_are_rotated_by_the_angle_and_no_border_comes_into_the_disc() -> None:
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    spots = torch.stack([torch.exp(-((row - 32) ** 2 + (column - x) ** 2) / 8) for x in (34, 46)])
    views, angle = views_of(spots.expand(32, -1, -1, -1))
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


def test_four_in_ten_views_are_compressed() -> None:
    images = IMAGE[..., :32, :32].expand(200, -1, -1, -1)
    views, _ = views_of(images)
    faint = (jpeg(views, torch.full((200,), 100.0)) - views).abs().mean((1, 2, 3))  # rounds again what is rounded
    assert 0.25 < (faint < 2e-4).float().mean() < 0.55
