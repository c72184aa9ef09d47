import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.linalg import expm, polar
from scipy.ndimage import map_coordinates

from stnrot.data.augment import KNOTS, Deform
from stnrot.data.draws import Purpose, normal
from stnrot.geometry import rotate

KEY = (3, 0)


def deform(**strength: float) -> Deform:
    return Deform(**({"turn_deg": 0, "stretch": 0, "shift": 0, "elastic": 0} | strength))


def ramp(height: int, width: int) -> torch.Tensor:
    """Pixel coordinates (x, y) from the centre as a picture: sampling it says where was sampled."""
    y = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    return torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)))[None]


def test_without_strength_it_is_the_turn() -> None:
    image, angle, draw = torch.rand(5, 2, 20, 30), torch.rand(5) * 6, torch.arange(5)
    torch.testing.assert_close(deform()(image, angle, KEY, draw), rotate(image, angle), atol=1e-5, rtol=0)


def test_the_stretch_is_scipys_and_has_no_rotation() -> None:
    """On 40 x 60 pixels: where the middle was sampled is a linear map of pixels, the turn times expm of a symmetric."""
    draw = torch.arange(30)
    numbers = normal((*KEY, Purpose.DEFORM), draw, 3).double().numpy() * 0.2 / math.sqrt(2)
    angle = torch.linspace(-3, 3, 30)
    sampled = deform(stretch=0.2)(ramp(40, 60).expand(30, -1, -1, -1), angle, KEY, draw)[..., 14:26, 24:36].numpy()
    where = ramp(40, 60)[0, :, 14:26, 24:36].numpy().reshape(2, -1)
    for k in range(30):
        found = sampled[k].reshape(2, -1) @ np.linalg.pinv(where)
        scale, along, across = numbers[k]
        stretch = expm(np.array([[scale + along, across], [across, scale - along]]))
        c, s = math.cos(angle[k]), math.sin(angle[k])
        np.testing.assert_allclose(found, np.array([[c, -s], [s, c]]) @ stretch, atol=1e-3)
        np.testing.assert_allclose(polar(found)[0], [[c, -s], [s, c]], atol=1e-3)


def test_along_any_direction_the_log_scale_has_the_deviation_asked_for() -> None:
    scale, along, across = (normal((*KEY, Purpose.DEFORM), torch.arange(4000), 3) * 0.3 / math.sqrt(2)).numpy().T
    for direction in (0.0, 0.4, 2.0):
        logs = scale + along * np.cos(2 * direction) + across * np.sin(2 * direction)
        assert stats.kstest(logs / 0.3, "norm").pvalue > 1e-3


def test_the_elastic_field_is_that_of_its_knots() -> None:
    draw = torch.arange(3)
    image = torch.rand(3, 1, 24, 32)
    knots = normal((*KEY, Purpose.DEFORM), draw, 5 + 2 * KNOTS**2)[:, 5:].view(3, 2, KNOTS, KNOTS) * 0.1
    bend = F.interpolate(knots, size=(24, 32), mode="bicubic", align_corners=True).numpy()
    bent = deform(elastic=0.1)(image, torch.zeros(3), KEY, draw)
    y, x = np.mgrid[:24, :32].astype(float)
    for k in range(3):
        places = [y + bend[k, 1] * 12, x + bend[k, 0] * 16]
        expected = map_coordinates(image[k, 0].numpy(), places, order=1, mode="grid-constant")
        np.testing.assert_allclose(bent[k, 0].numpy(), expected, atol=1e-4)


def test_a_shift_is_a_share_of_half_the_side() -> None:
    draw = torch.arange(2000)
    sampled = deform(shift=0.05)(ramp(20, 40).expand(2000, -1, -1, -1), torch.zeros(2000), KEY, draw)
    moved = sampled[..., 9:11, 19:21].mean((2, 3))
    np.testing.assert_allclose(moved.std(0), [0.05 * 20, 0.05 * 10], rtol=0.1)


def test_a_draw_is_deformed_alike_in_every_batch() -> None:
    whole, image = deform(stretch=0.1, shift=0.1, elastic=0.1, turn_deg=90), torch.rand(6, 1, 12, 12)
    draw, angle = torch.arange(6) * 7, torch.zeros(6)
    together = whole(image, angle, KEY, draw)
    torch.testing.assert_close(whole(image[2:4], angle[2:4], KEY, draw[2:4]), together[2:4])
    turns = whole.turns(KEY, torch.arange(5000))
    assert stats.kstest(turns.numpy() / math.pi + 0.5, "uniform").pvalue > 1e-3
