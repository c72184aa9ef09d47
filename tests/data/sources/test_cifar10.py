import hashlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed, made_once
from hydra.utils import instantiate
from PIL import Image
from sample_images import CIFAR10_COUNTS, cifar10_pixels
from torchvision.datasets import CIFAR10
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from stnrot.data.rng import Split
from stnrot.data.sources.cifar10 import CLASSES, CIFAR10Source
from stnrot.errors import InputError
from stnrot.runs.command_line import one_line


def write_batches(root: Path) -> None:
    """Write noise in the format of CIFAR-10's Python version, in class order backwards."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for part, files in (("train", CIFAR10.train_list), ("test", CIFAR10.test_list)):
        labels = np.repeat(np.arange(10)[::-1], CIFAR10_COUNTS[part])
        flat = cifar10_pixels(part).transpose(0, 3, 1, 2).reshape(len(labels), -1)
        rows = np.array_split(np.arange(len(labels)), len(files))
        for (name, _), mine in zip(files, rows, strict=True):
            entry = {"data": flat[mine], "labels": labels[mine].tolist()}
            (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))


@pytest.fixture
def batches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files, with their MD5 sums in the place of those of CIFAR-10."""
    root = made_once(tmp_path_factory, "cifar10_batches", write_batches)

    def md5(name: str) -> str:
        return hashlib.md5((root / "cifar-10-batches-py" / name).read_bytes()).hexdigest()

    for names in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, names, [[name, md5(name)] for name, _ in getattr(CIFAR10, names)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5("batches.meta")})
    return root


def source(side: int = 32, fit_validation: bool = False) -> CIFAR10Source:
    return CIFAR10Source(image_size=(side, side), fit_validation=fit_validation)


@pytest.mark.parametrize("fit_validation", [False, True])
def test_the_split_of_torchvisions_set(batches: Path, fit_validation: bool) -> None:
    official = CIFAR10(str(batches), train=False)
    splits = source(fit_validation=fit_validation)(batches, 3)
    assert torch.equal(splits.test.image.permute(0, 2, 3, 1), torch.from_numpy(official.data))
    assert splits.test.label.tolist() == official.targets
    assert splits.classes == tuple(official.classes)
    assert splits.val.label.bincount().tolist() == [2] * 10
    assert len(splits.train) == (200 if fit_validation else 180)

    train = CIFAR10(str(batches), train=True)
    rows = [(bytes(image), label) for image, label in zip(train.data.transpose(0, 3, 1, 2), train.targets, strict=True)]
    parts = (splits.train,) if fit_validation else (splits.train, splits.val)
    seen = [(bytes(i), int(c)) for part in parts for i, c in zip(part.image.numpy(), part.label, strict=True)]
    assert sorted(seen) == sorted(rows)
    assert {bytes(image) for image in splits.val.image.numpy()} <= {image for image, _ in seen}


def test_class_folders_hold_the_same_set(batches: Path, cifar10_root: Path) -> None:
    def content(root: Path) -> list[list[tuple[bytes, int]]]:
        splits = source(fit_validation=True)(root, 0)
        parts = (splits.train, splits.test)
        return [sorted((bytes(i), int(c)) for i, c in zip(p.image.numpy(), p.label, strict=True)) for p in parts]

    assert content(cifar10_root) == content(batches)
    names = source()(cifar10_root, 0).test.names
    assert names is not None
    assert names[0] == str(cifar10_root / "test" / "airplane" / "0090.png")


def test_other_sizes_are_those_of_torchvision(cifar10_root: Path) -> None:
    small, large = source()(cifar10_root, 0), source(70)(cifar10_root, 0)
    assert large.train.shape == (3, 70, 70)
    index = torch.tensor([5, 200, 3])
    expected = resize(small.train.image[index % len(small.train)], [70, 70], InterpolationMode.BICUBIC, antialias=True)
    assert (large.train.__getitems__(index).image.int() - expected.int()).abs().max() <= 1
    assert torch.equal(large.train.subset(index[:1]).label, small.train.label[index[:1]])


def test_the_preset_hides_the_corners(cifar10_root: Path) -> None:
    data = instantiate(composed("train", "data=cifar10", f"data.root={cifar10_root}").data, _convert_="all")
    assert data.spec() == {
        **{"channels": 3, "height": 32, "width": 32},
        **{"classes": 10, "class_names": list(CLASSES)},
    }
    raw = data.splits.train.__getitems__(torch.arange(64))
    batch = data.view(raw, Split.TRAIN)
    assert batch.image[..., 0, 0].abs().max() == 0
    assert batch.angle.abs().max() > 2.8


def test_what_is_not_cifar10(tmp_path: Path, cifar10_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/x.tar.gz")
    with pytest.raises(
        InputError, match=r"no complete CIFAR10 under data\.root=.*could not be downloaded.*class folders"
    ):
        source()(tmp_path / "nothing", 0)
    with pytest.raises(InputError, match=re.escape("data.root is not set: expected the folder that holds CIFAR10")):
        source()(None, 0)
    with pytest.raises(InputError, match=re.escape(f"expected the folder that holds train and test, {cifar10_root}")):
        source()(cifar10_root / "train", 0)
    (tmp_path / "test").mkdir()
    (tmp_path / "train").symlink_to(cifar10_root)  # a root of this name
    assert source()(tmp_path / "train", 0).classes == CLASSES
    (tmp_path / "train").unlink()
    (tmp_path / "test").rmdir()
    (tmp_path / "train").symlink_to(cifar10_root / "train")
    with pytest.raises(InputError, match=re.escape("expected the images of CIFAR-10 in train/CLASS and test/CLASS")):
        source()(tmp_path, 0)
    path = tmp_path / "test" / "cat" / "large.png"
    path.parent.mkdir(parents=True)
    for name in CLASSES:
        (tmp_path / "test" / name).mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "test" / name / "0.png")
    Image.new("RGB", (40, 33)).save(path)
    with pytest.raises(InputError, match=re.escape(f"{path} is 40 x 33: expected 32 x 32 pixels")):
        source()(tmp_path, 0)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=re.escape(f"cannot read the image {path}")):
        source()(tmp_path, 0)
    path.unlink()
    (tmp_path / "train").unlink()
    (tmp_path / "train").symlink_to("test")
    (path.parent / "0.png").unlink()
    with pytest.raises(InputError, match="expected at least 10 training images, got 9"):
        source()(tmp_path, 0)


@pytest.mark.parametrize(
    "option", ["image_size=[32]", "image_size=[32,48]", "image_size=[2,2]", "image_size=[a,b]", "fit_validation=1"]
)
def test_a_bad_option_is_one_line(option: str, unchecked: None) -> None:
    with pytest.raises(Exception, match=option.partition("=")[0]) as refused:
        instantiate(composed("train", "data=cifar10", f"data.source.{option}").data, _convert_="all")
    message = one_line(refused.value)
    assert message is not None
    assert message.startswith(f"data.source.{option.partition('=')[0]}=")
