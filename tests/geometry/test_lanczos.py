"""Sampling by the Lanczos kernel, against Pillow's resampling of a box that is not scaled."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from stnrot.geometry import rotate
from stnrot.geometry.planar import sample

HEIGHT, WIDTH, AROUND = 14, 19, 12
PADS = {"zeros": {"mode": "constant"}, "border": {"mode": "edge"}, "reflection": {"mode": "symmetric"}}


def grid_of_shift(across: float, down: float) -> torch.Tensor:
    """Return the sampling points of every pixel, moved by a shift in pixels."""
    column, row = torch.arange(WIDTH).double() + across, torch.arange(HEIGHT).double() + down
    x, y = ((2 * each + 1) / side - 1 for each, side in ((column, WIDTH), (row, HEIGHT)))
    return torch.stack((x.expand(HEIGHT, -1), y[:, None].expand(-1, WIDTH)), -1)[None]


@pytest.mark.parametrize("padding_mode", PADS)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.45), (-3.5, 2.25), (7.75, 6.1)])
def test_a_shift_is_that_of_pillow(padding_mode: str, shift: tuple[float, float]) -> None:
    pixels = np.random.default_rng(1).random((HEIGHT, WIDTH)).astype(np.float32)
    padded = Image.fromarray(np.pad(pixels, AROUND, **PADS[padding_mode]))
    left, top = AROUND + shift[0], AROUND + shift[1]
    box = (left, top, left + WIDTH, top + HEIGHT)
    expected = np.asarray(padded.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box))
    image = torch.from_numpy(pixels)[None, None].double()
    found = sample(image, grid_of_shift(*shift), "lanczos", padding_mode)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("padding_mode", PADS)
def test_the_gradient_is_the_finite_difference(padding_mode: str) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    grid = (torch.rand(2, 3, 4, 2, dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    torch.autograd.gradcheck(lambda *inputs: sample(*inputs, "lanczos", padding_mode), (image, grid))


def test_a_quarter_turn_is_rot90() -> None:
    image = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(rotate(image, math.pi / 2, "lanczos"), torch.rot90(image, 1, (2, 3)), atol=1e-5, rtol=0)


def test_nan_and_infinity_are_as_in_bicubic_sampling() -> None:
    image, angle = torch.rand(2, 1, 9, 9), torch.tensor([math.nan, 0.3])
    lanczos, bicubic = (rotate(image, angle, mode) for mode in ("lanczos", "bicubic"))
    assert lanczos[0].isnan().all()
    assert lanczos[1].isfinite().all()
    assert torch.equal(lanczos.isnan(), bicubic.isnan())
    image[1, 0, 0, 0] = math.inf  # far outside, no weight of 0 meets it
    far = torch.full((2, 1, 1, 2), 9.0)
    assert torch.equal(sample(image, far, "lanczos"), torch.zeros(2, 1, 1, 1))
