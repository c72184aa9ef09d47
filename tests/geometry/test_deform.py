import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.linalg import expm, polar
from scipy.ndimage import map_coordinates

from stnrot.geometry import Deform, rotate
from stnrot.geometry.deform import KNOTS, NUMBERS


def deform(**strength: float) -> Deform:
    return Deform(**({"turn_deg": 0, "stretch": 0, "shift": 0, "elastic": 0} | strength))


def ramp(height: int, width: int) -> torch.Tensor:
    """Return an image whose values are the pixel coordinates (x, y): a sampled value is the sampling position."""
    y = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    return torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)))[None]


def test_without_strength_it_is_the_rotation() -> None:
    image, angle, numbers = torch.rand(5, 2, 20, 30), torch.rand(5) * 6, torch.randn(5, NUMBERS)
    torch.testing.assert_close(deform()(image, angle, numbers), rotate(image, angle), atol=1e-5, rtol=0)
    random = deform(turn_deg=30)
    both = rotate(image, angle + random.random_angle(numbers))
    torch.testing.assert_close(random(image, angle, numbers), both, atol=1e-5, rtol=0)


def test_the_stretch_is_scipys_and_has_no_rotation() -> None:
    """In the middle of 40 x 60 pixels, the sampling map is the rotation times expm of a symmetric matrix."""
    drawn = torch.randn(30, NUMBERS)
    numbers = drawn[:, 1:4].double().numpy() * 0.2 / math.sqrt(2)
    angle = torch.linspace(-3, 3, 30)
    sampled = deform(stretch=0.2)(ramp(40, 60).expand(30, -1, -1, -1), angle, drawn)[..., 14:26, 24:36].numpy()
    where = ramp(40, 60)[0, :, 14:26, 24:36].numpy().reshape(2, -1)
    for k in range(30):
        found = sampled[k].reshape(2, -1) @ np.linalg.pinv(where)
        scale, along, across = numbers[k]
        stretch = expm(np.array([[scale + along, across], [across, scale - along]]))
        c, s = math.cos(angle[k]), math.sin(angle[k])
        np.testing.assert_allclose(found, np.array([[c, -s], [s, c]]) @ stretch, atol=1e-3)
        np.testing.assert_allclose(polar(found)[0], [[c, -s], [s, c]], atol=1e-3)


def test_along_any_direction_the_log_scale_has_the_requested_deviation() -> None:
    sampled = deform(stretch=0.1)(ramp(20, 20).expand(3000, -1, -1, -1), torch.zeros(3000), torch.randn(3000, NUMBERS))
    right = sampled[..., 9:11, 10].mean(-1) - sampled[..., 9:11, 9].mean(-1)
    down = sampled[..., 10, 9:11].mean(-1) - sampled[..., 9, 9:11].mean(-1)
    slanting = (right + down).sum(1) / 2  # along the diagonal
    deviation = [each.log().std() for each in (right[:, 0], down[:, 1], slanting)]
    np.testing.assert_allclose(deviation, [0.1, 0.1, 0.1], rtol=0.05)


def test_the_elastic_field_is_that_of_its_knots() -> None:
    image, numbers = torch.rand(3, 1, 24, 32), torch.randn(3, NUMBERS)
    knots = numbers[:, 6:].view(3, 2, KNOTS, KNOTS) * 0.1
    bend = F.interpolate(knots, size=(24, 32), mode="bicubic", align_corners=True).numpy()
    bent = deform(elastic=0.1)(image, torch.zeros(3), numbers)
    y, x = np.mgrid[:24, :32].astype(float)
    for k in range(3):
        places = [y + bend[k, 1] * 12, x + bend[k, 0] * 16]
        expected = map_coordinates(image[k, 0].numpy(), places, order=1, mode="grid-constant")
        np.testing.assert_allclose(bent[k, 0].numpy(), expected, atol=1e-4)


def test_a_shift_is_a_share_of_half_the_side() -> None:
    still = ramp(20, 40).expand(2000, -1, -1, -1)
    sampled = deform(shift=0.05)(still, torch.zeros(2000), torch.randn(2000, NUMBERS))
    moved = sampled[..., 9:11, 19:21].mean((2, 3))
    np.testing.assert_allclose(moved.std(0), [0.05 * 20, 0.05 * 10], rtol=0.1)


def test_the_rotation_comes_before_the_deformation() -> None:
    """Rotate by torch.rot90 first: shift, stretch and bend act along the axes of the output."""
    numbers = torch.randn(4, NUMBERS)
    strong = deform(stretch=0.2, shift=0.1, elastic=0.1)
    for quarters, size in ((1, (24, 24)), (2, (20, 30))):
        image = torch.rand(4, 1, *size)
        once = strong(image, torch.full((4,), quarters * math.pi / 2), numbers)
        twice = strong(torch.rot90(image, quarters, (2, 3)), torch.zeros(4), numbers)
        torch.testing.assert_close(once, twice, atol=1e-4, rtol=0)


def test_coordinates_are_never_in_16_bits() -> None:
    image, numbers, angle = torch.rand(2, 1, 224, 224), torch.randn(2, NUMBERS), torch.tensor([0.5, 2.0])
    exact = deform(stretch=0.1, elastic=0.05)(image, angle, numbers)
    coarse = deform(stretch=0.1, elastic=0.05)(image.bfloat16(), angle.bfloat16(), numbers)
    assert (coarse.float() - exact).abs().max() < 0.01


def test_the_gradient_in_the_angle() -> None:
    """Use torch.autograd.gradcheck, on an image where bilinear sampling has no kinks."""
    strong = deform(turn_deg=20, stretch=0.1, shift=0.1, elastic=0.02)
    numbers, angle = torch.randn(3, NUMBERS, dtype=torch.float64), torch.rand(3, dtype=torch.float64) * 6
    image = ramp(12, 12).double().expand(3, -1, -1, -1)

    def middle(angle: torch.Tensor) -> torch.Tensor:
        return strong(image, angle, numbers)[..., 4:8, 4:8]

    assert torch.autograd.gradcheck(middle, (angle.requires_grad_(),))


def test_random_angles_are_uniform() -> None:
    angles = deform(turn_deg=90).random_angle(torch.randn(5000, NUMBERS)).numpy()
    assert stats.kstest(angles / math.pi + 0.5, "uniform").pvalue > 1e-3
