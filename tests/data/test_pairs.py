import numpy as np
import torch
from conftest import composed
from hydra.utils import instantiate

from stnrot.data.draws import Split
from stnrot.data.image_data import ImageData
from stnrot.geometry import rotate, wrap


def pairs(*overrides: str) -> ImageData:
    data = instantiate(composed("train", "data=image_pairs", *overrides).data, _convert_="all")
    data.setup()
    return data


def view(data: ImageData, draws: torch.Tensor, split: Split = Split.VAL):
    part = data.splits.part(split)
    return data.view(part.__getitems__(draws), split)


def test_the_angle_turns_the_image_onto_the_reference() -> None:
    batch = view(pairs("data.gain=0", "data.noise=0"), torch.arange(100))
    inner = (..., slice(8, 20), slice(8, 20))
    right = ((rotate(batch.image, batch.angle) - batch.reference)[inner] ** 2).mean()
    left = ((rotate(batch.image, -batch.angle) - batch.reference)[inner] ** 2).mean()
    assert right < 0.01 < 0.05 < left


def test_both_pictures_are_turned_independently() -> None:
    data = pairs("data.gain=0", "data.noise=0")
    upright = data.splits.val.image[:100].float() / 255
    batch = view(data, torch.arange(100))
    for picture in (batch.image, batch.reference):
        assert ((picture - upright) ** 2).mean() > 0.02
    shown = view(pairs("data.gain=0", "data.noise=0", "data.turn_reference=false"), torch.arange(100))
    assert ((shown.reference - upright) ** 2).mean() < 0.002


def test_gain_and_noise_have_their_size() -> None:
    clean = view(pairs("data.gain=0", "data.noise=0"), torch.arange(200))
    noisy = view(pairs("data.gain=0", "data.noise=0.1"), torch.arange(200))
    middle = (clean.image > 0.4) & (clean.image < 0.6)
    assert abs(float((noisy.image - clean.image)[middle].std()) - 0.1) < 0.01
    bright = view(pairs("data.gain=0.5", "data.noise=0"), torch.arange(200))
    ratio = bright.image.sum((1, 2, 3)) / clean.image.sum((1, 2, 3))
    assert 0.45 < float(ratio.min()) < 0.6
    assert 1.0 < float(ratio.max()) < 1.5  # bright pixels saturate


def test_other_instance_is_of_the_class_and_another_and_any() -> None:
    data = pairs("data.other_instance=true")
    part = data.splits.val
    raw = part.__getitems__(torch.arange(len(part)))
    pixels = {bytes(p): k for k, p in enumerate(part.pictures.image.flatten(1).numpy())}
    partner = torch.tensor([pixels[bytes(p)] for p in raw.reference.flatten(1).numpy()])
    assert torch.equal(part.label[partner], part.label)
    assert (partner != torch.arange(len(part))).all()
    assert len(partner.unique()) > 0.5 * len(part)
    train = data.splits.train
    first, second = (train.__getitems__(torch.arange(50) + e * len(train)).reference for e in (0, 1))
    assert not torch.equal(first, second)


def test_manifest_pairs_are_evaluated_as_they_are(pair_manifest) -> None:
    path, angles = pair_manifest
    data = pairs(
        "data/source=manifest",
        f"data.root={path}",
        "data.source.image_size=[40,40]",
        "data.source.test_fraction=1",
        "data.source.val_fraction=0",
        "data.gain=0",
        "data.noise=0",
    )
    batch = view(data, torch.arange(len(angles)), Split.TEST)
    error = wrap(batch.angle - torch.tensor(np.radians(angles), dtype=torch.float32))
    assert error.abs().max() < 1e-6
    inner = (..., slice(10, 30), slice(10, 30))
    assert ((rotate(batch.image, batch.angle) - batch.reference)[inner] ** 2).mean() < 0.002


def test_manifest_pairs_turn_further_in_training(pair_manifest) -> None:
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
