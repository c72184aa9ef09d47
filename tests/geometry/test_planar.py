import math
import subprocess
import sys

import cv2
import kornia
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from scipy import ndimage

from stnrot.geometry import inscribed_disc, nearest_rotation, rotate, rotation_theta, sampling_grid, warp

SIZES = [(28, 28), (27, 27), (20, 30), (31, 18)]


def smooth(height: int, width: int, channels: int = 1) -> torch.Tensor:
    """Return an image without a symmetry, so smooth that different resamplers agree closely."""
    noise = np.random.default_rng(0).random((channels, height, width))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2, 2)))[None].float() * 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_rot90(size: tuple[int, int], quarters: int) -> None:
    side = min(size)
    image = smooth(side, side, 3) if quarters % 2 else smooth(*size, 3)
    rotated = rotate(image, torch.tensor([quarters * math.pi / 2]))
    torch.testing.assert_close(rotated, torch.rot90(image, quarters, (2, 3)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [*SIZES, (200, 300)])
@pytest.mark.parametrize("degrees", [-170.0, -45.0, 10.0, 63.0, 120.0])
def test_any_rotation_is_scipys_in_pixel_space(size: tuple[int, int], degrees: float) -> None:
    """A 200 x 300 image does not shear: scipy rotates pixel coordinates, in float64."""
    image = smooth(*size)[0, 0].double()
    a = math.radians(degrees)
    # scipy maps output (row, column) to input; rows grow downward, so counter-clockwise is this matrix
    matrix = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    centre = (np.array(size) - 1) / 2
    expected = ndimage.affine_transform(
        image.numpy(), matrix, offset=centre - matrix @ centre, order=1, mode="grid-constant"
    )
    rotated = rotate(image[None, None], torch.tensor([a], dtype=torch.float64))[0, 0].numpy()
    np.testing.assert_allclose(rotated, expected, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_bicubic_rotation_is_opencvs(size: tuple[int, int]) -> None:
    """OpenCV rounds the sampling position to a 32nd of a pixel."""
    image, (height, width) = smooth(*size), size
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 33.0, 1.0)
    expected = cv2.warpAffine(image[0, 0].numpy(), matrix, (width, height), flags=cv2.INTER_CUBIC)
    rotated = rotate(image, torch.tensor([math.radians(33)]), "bicubic")[0, 0].numpy()
    np.testing.assert_allclose(rotated, expected, atol=0.03)
    assert abs(rotate(image, torch.tensor([math.radians(33)]))[0, 0].numpy() - expected).max() > 0.03


@pytest.mark.parametrize("size", SIZES)
def test_direction_and_centre_are_those_of_other_libraries(size: tuple[int, int]) -> None:
    image, degrees = smooth(*size), 33.0
    ours = rotate(image, torch.tensor([math.radians(degrees)]))
    inside = ndimage.binary_erosion(inscribed_disc(size).numpy(), iterations=2)
    bytes_ = Image.fromarray((image[0, 0] * 120).round().numpy().astype(np.uint8))
    others = {
        "torchvision": TF.rotate(image, degrees, TF.InterpolationMode.BILINEAR),
        "kornia": kornia.geometry.rotate(image, torch.tensor([degrees])),
        "pillow": torch.from_numpy(np.asarray(bytes_.rotate(degrees, Image.Resampling.BILINEAR)) / 120.0)[None, None],
    }
    for name, other in others.items():
        gap = (ours - other).abs()[0, 0].numpy()[inside].max()
        assert gap < 0.02, f"{name}: {gap}"


@pytest.mark.parametrize("size", [(5, 7), (28, 28)])
def test_grid_is_torchs(size: tuple[int, int]) -> None:
    theta = torch.randn(4, 2, 3)
    expected = F.affine_grid(theta, [4, 1, *size], align_corners=False)
    torch.testing.assert_close(sampling_grid(theta, *size), expected, atol=1e-6, rtol=0)


def test_many_angles_of_an_image_are_its_single_rotations() -> None:
    image, angle = smooth(20, 30, 3).expand(4, -1, -1, -1), torch.rand(4, 3) * 6
    rotated = rotate(image, angle)
    for k in range(3):
        expected = F.grid_sample(
            image,
            F.affine_grid(rotation_theta(angle[:, k], 20, 30), list(image.shape), align_corners=False),
            align_corners=False,
        )
        torch.testing.assert_close(rotated[:, k], expected, atol=1e-5, rtol=0)


def test_gradients_are_finite_differences() -> None:
    image = smooth(6, 9, 2).double().requires_grad_()
    angle = torch.tensor([0.37], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate, (image, angle), eps=1e-7, atol=1e-5)


def test_coordinates_stay_exact_under_autocast() -> None:
    image, angle = smooth(64, 64), torch.tensor([1.234])
    with torch.autocast("cpu", torch.bfloat16):
        rotated = rotate(image, angle.bfloat16())
    torch.testing.assert_close(rotated, rotate(image, angle.bfloat16().float()), atol=1e-6, rtol=0)
    assert rotate(image.bfloat16(), angle).dtype == torch.bfloat16


def test_nearest_rotation_is_the_polar_decompositions() -> None:
    for size in SIZES:
        height, width = size
        theta = torch.randn(50, 2, 3, dtype=torch.float64)
        stretch = torch.tensor([[1.0, width / height], [height / width, 1.0]], dtype=torch.float64)
        u, _, vt = torch.linalg.svd(theta[..., :2] * stretch)
        u[..., 1] *= torch.det(u @ vt)[:, None]
        closest = u @ vt
        expected = torch.atan2(closest[:, 1, 0], closest[:, 0, 0])
        gap = torch.polar(torch.ones(50).double(), nearest_rotation(theta, height, width) - expected)
        torch.testing.assert_close(gap, torch.ones_like(gap), atol=1e-6, rtol=0)


def test_warp_of_the_identity_is_the_image() -> None:
    image = smooth(20, 30, 3)
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(warp(image, theta), image, atol=1e-5, rtol=0)


def test_no_rotation_moves_the_outside_into_the_disc() -> None:
    """Inside the disc a white image stays white, at any angle."""
    for size in SIZES:
        inside = inscribed_disc(size)
        mask = inside.numpy()
        ones = torch.ones(1, 1, *size)
        for angle in torch.linspace(0, 6, 7):
            assert rotate(ones, angle[None])[0, 0].numpy()[mask].min() > 0.999
        area = math.pi * ((min(size) - 1) / 2) ** 2
        assert abs(int(inside.sum()) - area) < 0.05 * area


def test_compiles_and_exports_whole() -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from stnrot.geometry import rotate

class Turn(torch.nn.Module):
    def forward(self, image, angle):
        return rotate(image, angle)

compiled = torch.compile(Turn(), fullgraph=True, backend="aot_eager")
for batch in (4, 4, 3):  # the last batch of an epoch is smaller
    image, angle = torch.rand(batch, 1, 12, 17), torch.rand(batch, requires_grad=True)
    torch.testing.assert_close(compiled(image, angle), rotate(image, angle))
    compiled(image, angle).sum().backward()
exported = torch.export.export(Turn(), (image, angle)).module()
torch.testing.assert_close(exported(image, angle), rotate(image, angle))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
