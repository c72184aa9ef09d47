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
from packaging.version import Version
from PIL import Image
from scipy import ndimage

from stnrot import InputError
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


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_centre_and_surroundings_are_kornias(mode: str, padding_mode: str) -> None:
    """Values and gradients, with an angle and a centre for each image, in float64."""
    pytest.importorskip("kornia", "0.9")  # earlier releases take align_corners=False in another way
    leaves = torch.rand(2, 3, 12, 17).double(), torch.tensor([0.4, -2.1]).double(), torch.tensor([[3.3, 7.1], [20, -2]])
    image, angle, center = (each.double().requires_grad_() for each in leaves)
    options = {"mode": mode, "padding_mode": padding_mode}
    ours = rotate(image, angle, center=center, **options)
    kornias = kornia.geometry.rotate(image, angle.rad2deg(), center=center, align_corners=False, **options)
    torch.testing.assert_close(ours, kornias, atol=1e-6, rtol=0)
    if mode == "nearest":
        return  # it has a gradient in the image alone
    upstream = torch.rand_like(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, (image, angle, center), upstream),
        torch.autograd.grad(kornias, (image, angle, center), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-5)


def test_the_centre_of_torchvision_counts_from_the_corner_of_a_pixel() -> None:
    image = torch.rand(2, 3, 40, 60)
    expected = TF.rotate(image, 30.0, TF.InterpolationMode.BILINEAR, center=[10.5, 25.5])
    for center in ((10, 25), torch.tensor([10.0, 25.0])):
        torch.testing.assert_close(rotate(image, math.radians(30), center=center), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(40, 60), (41, 60), (41, 61), (28, 28)])
@pytest.mark.parametrize("degrees", [0, 10, 30, 45, 63, 120, 180, -75, 359.9])
def test_expand_is_torchvisions(size: tuple[int, int], degrees: float) -> None:
    image = torch.rand(1, 3, *size)
    expected = TF.rotate(image, degrees, TF.InterpolationMode.BILINEAR, expand=True)
    torch.testing.assert_close(rotate(image, math.radians(degrees), expand=True), expected, atol=1e-3, rtol=0)


def test_an_expanded_quarter_turn_is_rot90_also_where_torchvision_adds_a_pixel() -> None:
    image = torch.rand(1, 3, 41, 60)
    rotated = rotate(image, torch.tensor([[math.pi / 2, -math.pi / 2]]), expand=True)
    expected = torch.stack((torch.rot90(image, 1, (2, 3)), torch.rot90(image, -1, (2, 3))), 1)
    torch.testing.assert_close(rotated, expected, atol=1e-4, rtol=0)
    assert TF.rotate(image, 90, TF.InterpolationMode.BILINEAR, expand=True).shape[-2:] == (61, 42)


def test_an_expanded_batch_has_the_size_of_its_largest_image() -> None:
    image = smooth(20, 30).expand(3, -1, -1, -1)
    rotated = rotate(image, torch.tensor([0.0, 0.6, 1.2]), expand=True)
    for k, degrees in enumerate((0.0, math.degrees(0.6), math.degrees(1.2))):
        alone = TF.rotate(image[k], degrees, TF.InterpolationMode.BILINEAR, expand=True)
        cropped = TF.center_crop(rotated[k], list(alone.shape[-2:]))
        torch.testing.assert_close(cropped, alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(rotated[k].sum(), alone.sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("fill", [0.3, torch.tensor([0.1, -2.0, 0.9])])
def test_fill_is_kornias_everywhere_and_torchvisions_but_on_the_edge(fill: float | torch.Tensor) -> None:
    """On the edge of the image torchvision weighs by the mask twice."""
    image, degrees = torch.rand(2, 3, 20, 30), 33.0
    value = torch.as_tensor(fill).expand(3)
    ours = rotate(image, math.radians(degrees), fill=fill)
    if Version(kornia.__version__) >= Version("0.9"):  # as above
        matrix = kornia.geometry.get_rotation_matrix2d(
            torch.tensor([[14.5, 9.5]] * 2), torch.tensor([degrees] * 2), torch.ones(2, 2)
        )
        kornias = kornia.geometry.warp_affine(
            image, matrix, (20, 30), padding_mode="fill", fill_value=value, align_corners=False
        )
        torch.testing.assert_close(ours, kornias, atol=1e-4, rtol=0)
    torchvisions = TF.rotate(image, degrees, TF.InterpolationMode.BILINEAR, fill=value.tolist())
    mask = rotate(torch.ones(20, 30), math.radians(degrees))
    off_edge = (mask < 1e-6) | (mask > 1 - 1e-6)
    torch.testing.assert_close(ours[..., off_edge], torchvisions[..., off_edge], atol=1e-4, rtol=0)


@pytest.mark.parametrize("fill", [-1e9, 255.0, -3.4e38])
def test_a_large_fill_keeps_labels(fill: float) -> None:
    """Compare with torchvision. In float32, 3 + 1e9 - 1e9 is 0."""
    labels = torch.randint(1, 9, (1, 41, 60)).float()
    expected = TF.rotate(labels, 33, TF.InterpolationMode.NEAREST, fill=fill)
    assert torch.equal(rotate(labels, math.radians(33), "nearest", fill=fill), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_fill_has_no_weight_inside_the_image(mode: str) -> None:
    """Also one of NaN, and in 16 bits; a plane without a fill has the same values there."""
    image, angle = torch.rand(2, 300, 400), torch.linspace(-3, 3, 5)
    inside = inscribed_disc((300, 400), margin=3)
    plain = rotate(image, angle, mode)[..., inside]
    for fill in (1e30, torch.tensor([math.nan, math.inf])):
        filled = rotate(image, angle, mode, fill=fill)
        assert torch.equal(filled[..., inside], plain)
        assert not filled[0, ..., 0, 0].abs().max() < 1e29
    for dtype, atol in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        rounded = rotate(image.to(dtype), angle, mode, fill=100.0)
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded[..., inside].float(), plain, atol=atol, rtol=0)


def test_gradients_to_angle_centre_and_fill_are_finite_differences() -> None:
    image = smooth(6, 9, 2).double().requires_grad_()
    rest = [torch.tensor(each).double().requires_grad_() for each in ([0.37], [2.3, 3.9], [0.2, -0.1])]

    def about(image: torch.Tensor, angle: torch.Tensor, center: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
        return rotate(image, angle, "bicubic", center=center, fill=fill)

    assert torch.autograd.gradcheck(about, (image, *rest), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (3, 20, 30), (1, 3, 20, 30), (4, 3, 20, 30), (0, 3, 20, 30)])
def test_shapes_of_images_and_angles(shape: tuple[int, ...]) -> None:
    image, radians = torch.rand(shape), math.radians(50)
    planes = torch.cat((image.reshape(-1, 1, 20, 30), torch.rand(1, 1, 20, 30)))  # torchvision rotates no empty batch
    expected = TF.rotate(planes, 50, TF.InterpolationMode.BILINEAR)[:-1].view(shape)
    one_each = (radians, torch.tensor(radians), np.float64(radians))
    for angle in (*one_each, torch.full((shape[0],), radians)) if image.ndim == 4 else one_each:
        torch.testing.assert_close(rotate(image, angle), expected, atol=1e-4, rtol=0)
    many = torch.full((*shape[:-3], 5) if image.ndim == 4 else (5,), radians)
    stacked = expected[:, None].expand(-1, 5, -1, -1, -1) if image.ndim == 4 else expected.expand(5, *shape)
    torch.testing.assert_close(rotate(image, many), stacked, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"angle": torch.zeros(3)}, "angle: expected a number or a tensor [B] or [B, K] with B = 2"),
        ({"angle": torch.tensor([30, 60])}, "angle: expected a finite number or a tensor [*K] of real numbers"),
        ({"angle": math.inf}, "angle: expected a finite number"),
        ({"angle": "30"}, "angle: expected a finite number"),
        (
            {"angle": 10**5000},
            "angle: expected a finite number or a tensor [*K] of real numbers on cpu, got a whole number of",
        ),
        ({"fill": 10**400}, "fill: expected a finite number"),
        ({"center": (1.0, math.nan)}, "center: expected (a finite number, a finite number)"),
        (
            {"angle": torch.zeros(2, device="meta")},
            "angle: expected a finite number or a tensor [*K] of real numbers on cpu",
        ),
        ({"image": torch.zeros(2, 3, 8, 9).byte()}, "image: expected a tensor [B, C, H, W] of real numbers"),
        ({"image": np.zeros((8, 9))}, "image: expected a tensor"),
        ({"image": torch.zeros(2, 3, 0, 9)}, "image: expected a tensor"),
        ({"image": torch.zeros(1, 2, 3, 8, 9)}, "image: expected a tensor"),
        ({"mode": "cubic"}, "mode: expected one of bilinear, bicubic, lanczos, nearest, got 'cubic'"),
        ({"padding_mode": "wrap"}, "padding_mode: expected one of zeros, border, reflection, got 'wrap'"),
        ({"padding_mode": "border", "fill": 1.0}, "fill: expected padding_mode='zeros', got 'border'"),
        ({"fill": torch.zeros(2)}, "fill: expected a finite number or a tensor [C] of real numbers on cpu with C = 3"),
        ({"center": (1.0, 2.0, 3.0)}, "center: expected"),
        ({"center": "middle"}, "center: expected"),
        ({"center": torch.zeros(3, 2)}, "center: expected"),
        ({"center": (4.0, 4.0), "expand": True}, "center: expected None with expand=True"),
        ({"expand": 1}, "expand: expected one of True, False, got 1"),
        ({"angle": torch.tensor([0.0, math.nan]), "expand": True}, "angle: expected finite angles"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_argument(given: dict[str, object], message: str) -> None:
    arguments = {"image": torch.rand(2, 3, 8, 9), "angle": torch.zeros(2)} | given
    with pytest.raises(InputError) as error:
        rotate(**arguments)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
    assert ", got " in str(error.value)
    assert "\n" not in str(error.value)


def test_nan_stays_in_its_image() -> None:
    rotated = rotate(torch.rand(2, 3, 8, 9), torch.tensor([0.5, math.nan]))
    assert rotated[0].isfinite().all()
    assert rotated[1].isnan().all()


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


@pytest.mark.ci
def test_compiles_and_exports_whole() -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from stnrot.geometry import rotate

class Turn(torch.nn.Module):
    def forward(self, image, angle):
        return rotate(image, angle, center=(3, 4), fill=0.5)

compiled = torch.compile(Turn(), fullgraph=True, backend="aot_eager")
for batch in (4, 4, 3):  # the last batch of an epoch is smaller
    image, angle = torch.rand(batch, 1, 12, 17), torch.rand(batch, requires_grad=True)
    torch.testing.assert_close(compiled(image, angle), rotate(image, angle, center=(3, 4), fill=0.5))
    compiled(image, angle).sum().backward()
whole = torch.compile(lambda image, angle: rotate(image, angle, expand=True), fullgraph=True, backend="aot_eager")
for radians in (0.3, 0.9):
    torch.testing.assert_close(whole(image, radians), rotate(image, radians, expand=True))
with torch.device("meta"):
    assert rotate(torch.zeros(4, 6), 0.3, expand=True).shape == rotate(image[0, 0, :4, :6], 0.3, expand=True).shape
batch = {0: torch.export.Dim("batch")}
exported = torch.export.export(Turn(), (image, angle.detach()), dynamic_shapes=(batch, batch)).module()
image, angle = torch.rand(5, 1, 12, 17), torch.rand(5)
torch.testing.assert_close(exported(image, angle), rotate(image, angle, center=(3, 4), fill=0.5))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_plane_has_one_fill_and_strides_do_not_matter() -> None:
    with pytest.raises(InputError, match=r"fill: expected \[1\], a value for each channel, got torch.float32 of shape"):
        rotate(torch.rand(3, 4), 0.5, fill=torch.tensor([0.1, 0.2]))
    image, theta = torch.rand(2, 1, 5, 5), torch.randn(2, 3, 3, 2).mT
    torch.testing.assert_close(warp(image, theta), warp(image, theta.contiguous()))
