"""Sampling by kept weights, compared with torch's functions in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from stnrot.geometry.resampling import _triangle_matrix, sample_circles, shrink


@pytest.mark.parametrize("size", [(28, 28), (23, 23), (32, 32), (40, 61), (8, 9)])
@pytest.mark.parametrize("batch", [(1, 1), (2, 1), (1, 2), (3, 2), (0, 1)])
@pytest.mark.parametrize("angles", [90, 75, 96])
def test_circles_are_those_of_grid_sample(size: tuple[int, int], batch: tuple[int, int], angles: int) -> None:
    """90, 75 and 96 directions can be divided by 2, by an odd number, and by 4."""
    image = torch.rand(*batch, *size)
    circles, reach, side = 6, 0.97, min(size)
    radius = (torch.arange(circles).double() + 0.5) / circles
    direction = torch.arange(angles).double() * (2 * math.pi / angles)
    x = reach * radius[:, None] * direction.cos() * (side / size[1])
    y = -reach * radius[:, None] * direction.sin() * (side / size[0])
    grid = torch.stack((x, y), -1).expand(len(image), -1, -1, -1)
    expected = F.grid_sample(image.double(), grid, "bicubic", "border", align_corners=False)
    expected = expected * (radius / radius.sum()).sqrt()[:, None]
    for given, tolerance in ((image, 1e-6), (image.double(), 1e-12), (image.clone().requires_grad_(), 1e-5)):
        found = sample_circles(given, circles, angles, reach)
        assert found.dtype == given.dtype
        torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("size", "to"), [((64, 64), (32, 32)), ((37, 90), (36, 17)), ((300, 200), (128, 128))])
def test_shrunk_images_are_those_of_interpolate(size: tuple[int, int], to: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    expected = F.interpolate(image.double(), size=to, mode="bilinear", align_corners=False, antialias=True)
    for given, tolerance in ((image, 1e-6), (image.double(), 1e-12), (image.clone().requires_grad_(), 1e-6)):
        torch.testing.assert_close(shrink(given, *to).double(), expected, atol=tolerance, rtol=0)


def test_many_points_are_sampled_without_kept_weights() -> None:
    image = torch.rand(1, 1, 16, 16)
    few, many = sample_circles(image, 2, 64, 1.0), sample_circles(image, 2, 2**16, 1.0)
    torch.testing.assert_close(many[..., :: 2**10], few, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "to"), [((40, 28), (13, 28)), ((17, 45), (16, 16)), ((20, 20), (32, 32))])
def test_the_matrices_of_an_exported_graph_resize_as_interpolate(size: tuple[int, int], to: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    down, across = (_triangle_matrix(a, b, image.device, image.dtype) for a, b in zip(size, to, strict=True))
    expected = F.interpolate(image, to, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(down @ image @ across.T, expected, atol=1e-9, rtol=0)
