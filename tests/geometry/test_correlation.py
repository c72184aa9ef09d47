import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.fft import next_fast_len
from sklearn.datasets import load_sample_image

from stnrot.errors import InputError
from stnrot.geometry import correlate
from stnrot.geometry.correlation import fast_length


def photograph(side: int, turn_deg: float = 0.0, x: int = 300, y: int = 213) -> np.ndarray:
    """Return a part of a photograph: Pillow rotates it counter-clockwise at full size, then crops and shrinks it."""
    whole = Image.fromarray(load_sample_image("china.jpg")).convert("L").crop((x - 200, y - 200, x + 200, y + 200))
    rotated = whole.rotate(turn_deg, Image.Resampling.BICUBIC)
    return np.asarray(rotated.resize((side, side), Image.Resampling.LANCZOS, box=(80, 80, 320, 320))) / 255


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


def subtract_ring_means(image: np.ndarray, radius: np.ndarray) -> np.ndarray:
    ring = radius.round().astype(int)
    return image - (np.bincount(ring.ravel(), image.ravel()) / np.bincount(ring.ravel()))[ring]


def test_the_number_of_angles_is_fast_for_the_fft() -> None:
    lengths = range(1, 3000)
    assert [fast_length(each) for each in lengths] == [next_fast_len(each, real=True) for each in lengths]


@pytest.mark.parametrize("side", [23, 32, 45, 64])
def test_it_is_pearsons_over_the_disc(side: int) -> None:
    """Compare with NumPy's corrcoef of the pixels in the disc, after scipy's rotation and without the ring means."""
    image, reference = photograph(side), photograph(side, 40, x=320)
    correlation = correlate(tensor(image), tensor(reference))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(y, x)
    disc = radius <= (side - 1) / 2
    for degrees in (0, 33, 90, 200):
        rotated = ndimage.rotate(image, degrees, reshape=False, order=3, mode="nearest")
        expected = np.corrcoef(
            subtract_ring_means(rotated, radius)[disc], subtract_ring_means(reference, radius)[disc]
        )[0, 1]
        found = correlation.value_and_derivatives(torch.tensor([[math.radians(degrees)]]))[0]
        assert found.item() == pytest.approx(expected, abs=0.02)


def test_itself_is_one_and_its_negative_minus_one() -> None:
    image = photograph(50)
    correlation = correlate(tensor(image, image), tensor(0.3 + 0.5 * image, 1 - image))
    found = correlation.value_and_derivatives(torch.zeros(2, 1, dtype=torch.float64))[0][:, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0]).double(), atol=1e-4, rtol=0)


def test_samples_and_derivatives_are_those_of_one_function() -> None:
    """Compare with finite differences in float64."""
    correlation = correlate(tensor(photograph(30)), tensor(photograph(30, 70)))
    count = 2 * correlation.coefficient.shape[1] + 6
    angle = torch.arange(count, dtype=torch.float64)[None] * (2 * math.pi / count)
    value, slope, bend = correlation.value_and_derivatives(angle)
    torch.testing.assert_close(correlation.sampled(count), value)
    step = 1e-5
    above, below = (correlation.value_and_derivatives(angle + s)[0] for s in (step, -step))
    torch.testing.assert_close(slope, (above - below) / (2 * step), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(bend, (above - 2 * value + below) / step**2, atol=1e-3, rtol=1e-4)


def test_colour_counts_every_channel() -> None:
    """Only the blue channel shows the rotation."""
    plain = np.tile(np.linspace(0, 1, 40), (40, 1))
    image = np.stack([0 * plain, 0 * plain, photograph(40)])
    reference = np.stack([0 * plain, 0 * plain, photograph(40, 25)])
    samples = correlate(torch.from_numpy(image)[None], torch.from_numpy(reference)[None]).sampled(720)
    assert samples.argmax().item() == pytest.approx(50, abs=1)


def test_a_uniform_image_has_zero_correlation() -> None:
    found = correlate(torch.full((1, 1, 30, 30), 0.7), torch.rand(1, 1, 30, 30)).sampled(200)
    assert found.abs().max() == 0


def test_every_frequency_that_has_a_phase_is_there() -> None:
    """Without the mean, the real transform of 75 directions (23 pixels) has 37 of them; of 96 (30 pixels), 47."""
    counts = {side: correlate(*torch.rand(2, 1, 1, side, side)).coefficient.shape[1] for side in (23, 30)}
    assert counts == {23: 37, 30: 47}


def test_references_are_one_or_as_many_as_images() -> None:
    image = torch.rand(3, 1, 8, 8)
    with pytest.raises(InputError, match=r"reference: expected one or 3 references, .*, got .* \[2, 1, 8, 8\]"):
        correlate(image, image[:2])
    assert correlate(image[:0], image[:1]).sampled(64).shape == (0, 64)


def test_too_few_samples_are_refused() -> None:
    correlation = correlate(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8).double())
    assert correlation.coefficient.dtype == torch.complex128
    count = 2 * correlation.coefficient.shape[1]
    with pytest.raises(InputError, match=f"count: expected a whole number of at least {count + 1}"):
        correlation.sampled(count)
