import math

import numpy as np
import pytest
import torch
from conftest import composed
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from stnrot.data.image_data import ImageData
from stnrot.data.rng import Split
from stnrot.geometry import rotate


def digits(*overrides: str) -> ImageData:
    data = instantiate(composed("train", *overrides).data, _convert_="all")
    data.setup()
    return data


def test_split_is_fixed_and_disjoint() -> None:
    splits = digits().splits
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [1000, 297, 500]
    pixels = [set(map(bytes, s.image.flatten(1).numpy())) for s in (splits.train, splits.val, splits.test)]
    assert sum(map(len, pixels)) == len(set.union(*pixels)) == 1797
    # written down once: everybody tests on these images
    assert splits.test.label[:12].tolist() == [6, 1, 8, 1, 3, 8, 9, 8, 6, 7, 0, 5]
    assert splits.train.image.shape[1:] == (1, 28, 28)


def test_the_angle_undoes_the_rotation() -> None:
    data = digits("data.max_angle_deg=180")
    raw = data.splits.val.__getitems__(torch.arange(100))
    batch = data.view(raw, Split.VAL)
    upright = raw.image.float() / 255
    for wrong, limit in ((False, 0.004), (True, None)):
        back = rotate(batch.image, -batch.angle if wrong else batch.angle)
        error = ((back - upright)[..., 6:22, 6:22] ** 2).mean()
        assert error > 0.02 if wrong else error < limit


def test_angles_span_the_range_and_are_functions_of_the_counter() -> None:
    data = digits("data.max_angle_deg=90", "seed=5")
    size = len(data.splits.train)

    def angles(counters: torch.Tensor, split: Split) -> torch.Tensor:
        part = data.splits.train if split is Split.TRAIN else data.splits.val
        return data.view(part.__getitems__(counters), split).angle

    first, again = (
        angles(torch.arange(200), Split.TRAIN),
        angles(torch.arange(199, -1, -1), Split.TRAIN).flip(0),
    )
    assert torch.equal(first, again)
    assert first.abs().max() <= math.pi / 2
    assert first.max() > 1.4
    assert first.min() < -1.4
    assert not torch.equal(first, angles(torch.arange(200) + size, Split.TRAIN))
    other_seed = digits("data.max_angle_deg=90", "seed=6")
    assert torch.equal(
        angles(torch.arange(50), Split.VAL),
        other_seed.view(other_seed.splits.val.__getitems__(torch.arange(50)), Split.VAL).angle,
    )


def test_train_turns_once_gives_each_image_one_angle() -> None:
    data = digits("data.train_turns=once")
    counters = torch.arange(50)
    epochs = [data.view(data.splits.train.__getitems__(counters + e * 1000), Split.TRAIN) for e in range(2)]
    torch.testing.assert_close(epochs[0].image, epochs[1].image)


@pytest.mark.parametrize("count", [10, 100, 997])
def test_n_train_is_balanced(count: int) -> None:
    label = digits(f"data.n_train={count}").splits.train.label
    sizes = label.bincount(minlength=10)
    assert sizes.sum() == count
    assert sizes.max() - sizes.min() <= 1 or count > 900


def test_disc_blacks_out_the_corners() -> None:
    data = digits("data.border=disc")
    image = data.view(
        data.splits.val.__getitems__(torch.arange(20))._replace(
            image=torch.full((20, 1, 28, 28), 255, dtype=torch.uint8)
        ),
        Split.VAL,
    ).image
    assert image[..., 0, 0].abs().max() == 0
    torch.testing.assert_close(image[..., 14, 1], torch.ones(20, 1))


def test_images_never_rotated_are_the_originals() -> None:
    data = digits("data.train_turns=never")
    raw = data.splits.train.__getitems__(torch.arange(50))
    batch = data.view(raw, Split.TRAIN)
    torch.testing.assert_close(batch.image, raw.image.float() / 255, atol=1e-5, rtol=0)
    assert not batch.angle.any()
    assert data.view(data.splits.val.__getitems__(torch.arange(50)), Split.VAL).angle.abs().min() > 0


@pytest.mark.parametrize("train_turns", ["every_epoch", "once"])
@pytest.mark.parametrize("options", [["deform", "turn_deg=40"], ["random_views", "mirror=0"]])
def test_the_angle_of_an_augmented_image_is_right(train_turns: str, options: list[str]) -> None:
    """The moments of a wide bar beside the centre, changed and rotated, give the angle by numpy."""
    augment, option = options
    data = digits(f"data/augment={augment}", f"data.train_turns={train_turns}", f"data.augment.{option}")
    bar = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    bar[..., 12:16, 9:24] = 255
    raw = data.splits.train.__getitems__(torch.arange(400))._replace(image=bar.expand(400, -1, -1, -1))
    batch = data.view(raw, Split.TRAIN)
    y, x = np.mgrid[:28, :28] - 13.5
    mass = batch.image[:, 0].double().numpy()
    right, up = ((mass * axis).sum((1, 2)) / mass.sum((1, 2)) for axis in (x, -y))
    seen = np.arctan2(up, right)  # the bar lies to the right of the centre in the upright image
    error = np.angle(np.exp(1j * (seen + batch.angle.numpy())))
    assert abs(np.median(error)) < 0.05
    assert np.quantile(np.abs(error), 0.9) < 0.7
    assert np.abs(batch.angle.numpy()).max() > 3
    plain = digits(f"data.train_turns={train_turns}")
    assert not torch.equal(plain.view(raw, Split.TRAIN).image, batch.image)
    for split in (Split.VAL, Split.TEST):
        seen_in = (data.splits.val, data.splits.test)[split - 1].__getitems__(torch.arange(9))
        assert torch.equal(data.view(seen_in, split).image, plain.view(seen_in, split).image)


def test_the_angle_of_a_mirrored_image_is_right() -> None:
    """A bar below the centre stays there in the mirror image of the upright picture."""
    data = digits("data/augment=random_views")
    bar = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    bar[..., 17:20, 9:19] = 255
    raw = data.splits.train.__getitems__(torch.arange(300))._replace(image=bar.expand(300, -1, -1, -1))
    batch = data.view(raw, Split.TRAIN)
    y, x = np.mgrid[:28, :28] - 13.5
    mass = batch.image[:, 0].double().numpy() - 0.1
    right, up = ((mass * axis).sum((1, 2)) for axis in (x, -y))
    error = np.angle(np.exp(1j * (np.arctan2(up, right) + np.pi / 2 + batch.angle.numpy())))
    assert np.abs(np.median(error)) < 0.1
    assert np.quantile(np.abs(error), 0.9) < 0.8


def test_mirror_images_of_stored_images_are_refused() -> None:
    with pytest.raises(
        InstantiationException, match=r"augment\.mirror=0\.5: expected 0, because images that are stored"
    ):
        digits("data/augment=random_views", "data.train_turns=once")
