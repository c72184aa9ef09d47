import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from stnrot.data.degrade import NUMBERS, Degrade
from stnrot.errors import InputError

NOTHING = {"gain": 0.0, "noise": 0.0, "occlude": 0.0, "invert": 0.0, "shift": 0.0}


def drawn(count: int) -> torch.Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(0))


def pair(count: int, value: float = 0.5, size: tuple[int, int] = (40, 50)) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((count, 3, *size), value), torch.full((count, 3, *size), value)


def test_nothing_changes_nothing() -> None:
    image, reference = torch.rand(2, 5, 1, 9, 11).unbind()
    found = Degrade(**NOTHING)(image, reference, drawn(5), None)
    assert torch.equal(found[0], image)
    assert torch.equal(found[1], reference)


def test_one_rectangle_of_the_area_drawn_is_occluded() -> None:
    image, reference = pair(500, value=2.0)  # clamped to 1, while grey is below 1
    occluded, whole = Degrade(**NOTHING | {"occlude": 0.36})(image, reference, drawn(500), None)
    assert (whole == 1).all()
    mask = (occluded < 1).numpy()
    assert (mask == mask[:, :1]).all()  # in all channels
    area = mask[:, 0].mean((1, 2))
    assert stats.kstest(area / 0.36, "uniform").pvalue > 1e-3
    for each, shown in zip(mask[:, 0], occluded[:, 0].numpy(), strict=True):
        if each.any():
            (box,) = ndimage.find_objects(each.astype(int))
            assert each[box].all()
            assert np.ptp(shown[box]) == 0
    middle = mask[:, 0].mean(0)
    assert middle[:5].sum() > 0
    assert middle[-5:].sum() > 0


def test_a_share_of_the_images_is_its_negative() -> None:
    image, reference = torch.rand(2, 1000, 1, 4, 4).unbind()
    found, kept = Degrade(**NOTHING | {"invert": 0.3})(image, reference, drawn(1000), None)
    assert torch.equal(kept, reference)
    negative = ((found - (1 - image)).abs() < 1e-6).flatten(1).all(1)
    assert torch.equal(found[~negative], image[~negative])
    assert 0.25 < negative.float().mean() < 0.35


def test_brightness_and_noise_have_the_size_drawn() -> None:
    image, reference = pair(500)
    bright, too = Degrade(**NOTHING | {"gain": 0.4})(image, reference, drawn(500), None)
    for each in (bright, too):
        assert stats.kstest((each[:, 0, 0, 0].numpy() / 0.5 - 0.6) / 0.8, "uniform").pvalue > 1e-3
    assert np.corrcoef(bright[:, 0, 0, 0], too[:, 0, 0, 0])[0, 1] < 0.2
    noise = torch.randn(500, 6, 40, 50, generator=torch.Generator().manual_seed(1))
    for each in Degrade(**NOTHING | {"noise": 0.1})(image, reference, drawn(500), noise):
        assert stats.kstest(each.flatten(1).std(1).numpy() / 0.1, "uniform").pvalue > 1e-3


def test_displacements_are_shares_of_the_side() -> None:
    moved = Degrade(**NOTHING | {"shift": 0.1}).displacement(drawn(1000))
    assert stats.kstest((moved.flatten().numpy() + 0.1) / 0.2, "uniform").pvalue > 1e-3


def test_bad_amounts_are_refused() -> None:
    for name, amount in (("gain", 1.5), ("noise", -1), ("occlude", 1), ("invert", 2), ("shift", float("nan"))):
        with pytest.raises(InputError, match=rf"^{name}={amount}: expected a number (from|of at least)"):
            Degrade(**NOTHING | {name: amount})


def test_a_single_image_is_degraded_like_the_image_of_a_pair() -> None:
    image, reference = torch.rand(2, 50, 1, 9, 11).unbind()
    degrade, noise = Degrade(gain=0.3, noise=0.2, occlude=0.4, invert=0.5, shift=0.1), torch.randn(50, 2, 9, 11)
    alone = degrade.image(image, drawn(50), noise[:, :1])
    assert torch.equal(alone, degrade(image, reference, drawn(50), noise)[0])
    assert not torch.equal(alone, image)
