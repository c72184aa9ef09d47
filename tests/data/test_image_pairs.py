import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed
from hydra.utils import instantiate
from PIL import Image
from scipy import ndimage, stats

from stnrot.data.batch import Batch
from stnrot.data.degrade import NUMBERS
from stnrot.data.image_data import ImageData
from stnrot.data.rng import Purpose, Split, uniform
from stnrot.errors import InputError
from stnrot.geometry import rotate, wrap


def pairs(*overrides: str) -> ImageData:
    data = instantiate(composed("train", "data=image_pairs", *overrides).data, _convert_="all")
    data.setup()
    return data


def view(data: ImageData, counters: torch.Tensor, split: Split = Split.VAL):
    part = data.splits.part(split)
    return data.view(part.__getitems__(counters), split)


def test_the_angle_rotates_the_image_onto_the_reference() -> None:
    batch = view(pairs("data.degrade.gain=0", "data.degrade.noise=0"), torch.arange(100))
    inner = (..., slice(8, 20), slice(8, 20))
    right = ((rotate(batch.image, batch.angle) - batch.reference)[inner] ** 2).mean()
    left = ((rotate(batch.image, -batch.angle) - batch.reference)[inner] ** 2).mean()
    assert right < 0.01 < 0.05 < left


def test_both_images_are_rotated_independently(tmp_path: Path) -> None:
    """The gradient of a ramp shows its rotation: each angle is uniform, and the two are independent."""
    ramp = np.tile(np.linspace(40, 215, 64), (64, 1)).astype(np.uint8)
    for k in range(12):
        Image.fromarray(ramp).save(tmp_path / f"{k}.png")
    source = ("data/source=image_folder", f"data.root={tmp_path}", "data.source.image_size=[40,40]")
    data = pairs(*source, "data.degrade.gain=0", "data.degrade.noise=0", "data.border=cut")
    batch = view(data, torch.arange(2000), Split.TRAIN)
    angles = []
    for image in (batch.image, batch.reference):
        down, right = (np.gradient(image[:, 0].numpy(), axis=axis).mean((1, 2)) for axis in (1, 2))
        angles.append(np.arctan2(-down, right))  # counter-clockwise from the right
    assert stats.kstest(angles[0], stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3
    for other in (angles[1], -angles[1]):
        assert abs(np.exp(1j * (angles[0] + other)).mean()) < 0.08
    np.testing.assert_allclose(np.exp(1j * (angles[1] - angles[0])), np.exp(1j * batch.angle.numpy()), atol=0.02)


def test_the_reference_may_stay_upright() -> None:
    options = ("data.degrade.gain=0", "data.degrade.noise=0", "data.turn_reference=false")
    data = pairs(*options)
    batch = view(data, torch.arange(100))
    upright = data.splits.val.image[:100].float() / 255
    assert ((batch.reference - upright) ** 2).mean() < 0.002
    assert ((batch.image - upright) ** 2).mean() > 0.02


def test_gain_and_noise_have_their_size() -> None:
    clean = view(pairs("data.degrade.gain=0", "data.degrade.noise=0"), torch.arange(200))
    noisy = view(pairs("data.degrade.gain=0", "data.degrade.noise=0.1"), torch.arange(200))
    middle = (clean.image > 0.4) & (clean.image < 0.6)
    assert abs(float((noisy.image - clean.image)[middle].std()) - 0.1 / math.sqrt(3)) < 0.01  # uniform up to 0.1
    bright = view(pairs("data.degrade.gain=0.5", "data.degrade.noise=0"), torch.arange(200))
    ratio = bright.image.sum((1, 2, 3)) / clean.image.sum((1, 2, 3))
    assert 0.45 < float(ratio.min()) < 0.6
    assert 1.0 < float(ratio.max()) < 1.5  # bright pixels saturate


def test_the_image_moves_after_its_rotation() -> None:
    """The centre of mass (by scipy) moves by the displacement that was drawn; the rotation is the same."""
    options = ("data.degrade.gain=0", "data.degrade.noise=0", "data.border=keep")
    still, moved = (view(pairs(*options, f"data.degrade.shift={s}"), torch.arange(50)) for s in (0, 0.1))
    assert torch.equal(still.reference, moved.reference)
    assert torch.equal(still.angle, moved.angle)
    centres = [np.array([ndimage.center_of_mass(p[0]) for p in b.image.numpy()]) for b in (still, moved)]
    numbers = uniform((0, Split.VAL, Purpose.DEGRADE), torch.arange(50), NUMBERS).numpy()
    expected = 28 * 0.1 * (2 * numbers[:, 9:] - 1)[:, ::-1]  # down, right
    np.testing.assert_allclose(centres[1] - centres[0], expected, atol=0.1)


def white(tmp_path: Path, size: tuple[int, int], border: str) -> tuple[ImageData, Batch]:
    """White images, rotated and moved."""
    for k in range(12):
        Image.new("L", (70, 70), 255).save(tmp_path / f"{k}.png")
    source = ("data/source=image_folder", f"data.root={tmp_path}", f"data.source.image_size=[{size[0]},{size[1]}]")
    options = ("data.degrade.gain=0", "data.degrade.noise=0", "data.degrade.shift=0.05", f"data.border={border}")
    data = pairs(*source, *options)
    return data, view(data, torch.arange(500), Split.TRAIN)


@pytest.mark.parametrize("size", [(40, 40), (41, 60)])
def test_no_rotation_blackens_what_is_cut_out(tmp_path: Path, size: tuple[int, int]) -> None:
    data, batch = white(tmp_path, size, "cut")
    assert batch.image.min() > 0.999
    assert batch.reference.min() > 0.999
    height, width = batch.image.shape[-2:]
    assert (height - size[0]) % 2 == (width - size[1]) % 2 == 0
    assert data.spec() == data.spec() | {"height": height, "width": width}
    assert 40 / 1.1 / math.sqrt(2) - 2 < min(height, width) <= 41 / math.sqrt(2)


@pytest.mark.parametrize("size", [(40, 40), (41, 60)])
def test_no_rotation_blackens_what_lies_inside_the_disc(tmp_path: Path, size: tuple[int, int]) -> None:
    _, batch = white(tmp_path, size, "disc")
    seen = batch.reference[0] > 0
    assert seen.float().mean() > 0.25
    for image in (batch.image, batch.reference):
        assert (image[:, seen] > 0.999).all()
        assert not image[:, ~seen].any()


def test_other_instance_is_of_the_class_and_another_and_any() -> None:
    data = pairs("data.other_instance=true")
    part = data.splits.val
    raw = part.__getitems__(torch.arange(len(part)))
    pixels = {bytes(p): k for k, p in enumerate(part.images.image.flatten(1).numpy())}
    partner = torch.tensor([pixels[bytes(p)] for p in raw.reference.flatten(1).numpy()])
    assert torch.equal(part.label[partner], part.label)
    assert (partner != torch.arange(len(part))).all()
    assert len(partner.unique()) > 0.5 * len(part)
    train = data.splits.train
    first, second = (train.__getitems__(torch.arange(50) + e * len(train)).reference for e in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("other_instance", [False, True])
def test_a_share_of_the_training_pairs_is_unrelated(other_instance: bool) -> None:
    data = pairs("data.unrelated=0.3", f"data.other_instance={other_instance}")
    train, val = data.splits.train, data.splits.val
    counters = torch.arange(4 * len(train))
    raw = train.__getitems__(counters)
    pixels = {bytes(p): k for k, p in enumerate(raw.image[: len(train)].flatten(1).numpy())}
    partner = torch.tensor([pixels[bytes(p)] for p in raw.reference.flatten(1).numpy()])
    alike = train.label[partner] == raw.label if other_instance else partner == counters % len(train)
    expected = 0.3 * (0.9 if other_instance else 1)  # any other digit is of the same class in a tenth
    assert (~alike).float().mean() == pytest.approx(expected, abs=0.03)
    some = torch.tensor([7, 2000, 11])
    assert torch.equal(train.__getitems__(some).reference, raw.reference[some])
    kept = val.__getitems__(torch.arange(len(val)))
    if other_instance:
        assert kept.reference.shape == kept.image.shape
    else:
        assert kept.reference is None
    # the angle of an unrelated pair is random, not the one between the upright images
    mixed = partner != (raw.counter % len(train)) if not other_instance else raw.angle != 0
    assert not raw.angle[~mixed].any()
    assert stats.kstest(raw.angle[mixed].numpy(), stats.uniform(0, 2 * math.pi).cdf).pvalue > 0.01
    calm = pairs("data.unrelated=0", f"data.other_instance={other_instance}")
    moved = wrap(view(data, counters[:1000], Split.TRAIN).angle - view(calm, counters[:1000], Split.TRAIN).angle)
    torch.testing.assert_close(moved, wrap(raw.angle[:1000]), atol=1e-5, rtol=0)


def test_unrelated_pairs_where_files_cannot_be_read(tmp_path: Path) -> None:
    """Every other file is broken: the readable half of a batch is complete, and every image has its reference."""
    for k in range(40):
        Image.new("L", (30, 30), 5 * k + 1).save(tmp_path / f"{k:02}.png")
        if k % 2 == 0:
            whole = (tmp_path / f"{k:02}.png").read_bytes()
            (tmp_path / f"{k:02}.png").write_bytes(whole[:50])
    data = pairs(
        "data/source=image_folder",
        f"data.root={tmp_path}",
        "data.source.image_size=[30,30]",
        "data.source.on_bad_image=skip",
        "data.source.memory_gb=0",
        "data.unrelated=0.5",
    )
    train = data.splits.train
    raw = train.__getitems__(torch.arange(10 * len(train)))
    names = np.array([int(Path(name).stem) for name in train.names])[raw.counter % len(train)]
    assert (names % 2 == 1).all()
    np.testing.assert_array_equal(raw.image[:, 0, 0, 0], 5 * names + 1)
    partner = (raw.reference[:, 0, 0, 0].numpy().astype(int) - 1) // 5
    assert (partner % 2 == 1).all()
    np.testing.assert_array_equal(partner != names, raw.angle.numpy() != 0)
    assert 0.15 < np.mean(partner != names) < 0.35  # half of half


def test_pairs_of_a_manifest_cannot_be_unrelated(pair_manifest) -> None:
    path, _ = pair_manifest
    with pytest.raises(InputError, match=r"data\.unrelated=0\.1: expected 0 for the pairs of a manifest"):
        pairs("data/source=manifest", f"data.root={path}", "data.unrelated=0.1")


@pytest.mark.parametrize(
    ("count", "options", "line"),
    [
        (
            9,
            ("data.border=cut", "data.degrade.shift=0.5"),
            "data.border=cut: expected .*, got 4 x 4 pixels; lower data",
        ),
        (
            1,
            ("data.unrelated=1", "data.source.val_fraction=0"),
            "data.unrelated=1: expected 0 for a training set of on",
        ),
        (9, ("data.other_instance=true",), "data.other_instance=true: expected at least 2 images of each class in ea"),
    ],
)
def test_images_that_are_too_few_or_too_small(count: int, options: tuple[str, ...], line: str, tmp_path: Path) -> None:
    for k in range(count):
        path = tmp_path / "class" / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9), 20 * k, dtype=np.uint8)).save(path)
    source = ("data/source=image_folder", f"data.root={tmp_path}", "data.source.image_size=[4,4]")
    with pytest.raises(InputError, match=line):
        pairs(*source, "data.source.test_fraction=0.1", *options).spec()


def test_manifest_pairs_are_evaluated_as_they_are(pair_manifest) -> None:
    path, angles = pair_manifest
    data = pairs(
        "data/source=manifest",
        f"data.root={path}",
        "data.source.image_size=[40,40]",
        "data.source.test_fraction=1",
        "data.source.val_fraction=0",
        "data.degrade.gain=0",
        "data.degrade.noise=0",
    )
    batch = view(data, torch.arange(len(angles)), Split.TEST)
    error = wrap(batch.angle - torch.tensor(np.radians(angles), dtype=torch.float32))
    assert error.abs().max() < 1e-6
    inner = (..., slice(10, 30), slice(10, 30))
    assert ((rotate(batch.image, batch.angle) - batch.reference)[inner] ** 2).mean() < 0.002


def test_manifest_pairs_are_rotated_further_in_training(pair_manifest) -> None:
    path, _ = pair_manifest
    data = pairs(
        "data/source=manifest",
        f"data.root={path}",
        "data.source.image_size=[40,40]",
        "data.source.test_fraction=0",
        "data.source.val_fraction=0",
    )
    batch = view(data, torch.arange(8), Split.TRAIN)
    later = view(data, torch.arange(8) + 8, Split.TRAIN)
    inner = (..., slice(10, 30), slice(10, 30))
    assert ((rotate(batch.image, batch.angle) - batch.reference)[inner] ** 2).mean() < 0.005
    assert not torch.allclose(batch.angle, later.angle)
