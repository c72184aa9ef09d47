"""Real files of every kind, good and bad. The ground truth is the image that Pillow itself reads."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from stnrot.data.image_file import read_header
from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.files import FileSet, split_by_seed
from stnrot.data.sources.image_folder import ImageFolder
from stnrot.data.sources.manifest import Manifest
from stnrot.errors import InputError

OPTIONS = {
    "image_size": (32, 48),
    "fit": "crop",
    "channels": None,
    "max_pixels": 10**8,
    "on_bad_image": "error",
    "memory_gb": None,
}
SPLIT = {"val_fraction": 0.2, "test_fraction": 0.2}


def decoding(**options: Any) -> Decoding:
    return Decoding(**OPTIONS | {"channels": 3} | options)


def image_folder(root: Path, split_seed: int, **options: Any) -> Splits:
    return ImageFolder(**OPTIONS | SPLIT | options)(root, split_seed)


def manifest(path: Path) -> Splits:
    return Manifest(**OPTIONS | SPLIT)(path, 0)


@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(load_sample_images().images[0])  # 640 x 427


@pytest.fixture
def folder(tmp_path: Path, photograph: Image.Image) -> Path:
    """Two classes of ten crops, of several sizes, formats and modes."""
    for k in range(20):
        name = tmp_path / "images" / ("sky", "roof")[k % 2] / f"{k:02d}.{('png', 'jpg', 'tif')[k % 3]}"
        name.parent.mkdir(parents=True, exist_ok=True)
        photograph.crop((20 * k, 10 * k, 20 * k + 60 + 5 * k, 10 * k + 90)).save(name)
    return tmp_path / "images"


def test_classes_splits_and_shape(folder: Path) -> None:
    splits = image_folder(folder, 0)
    parts = (splits.train, splits.val, splits.test)
    assert splits.classes == ("roof", "sky")
    assert [len(p) for p in parts] == [12, 4, 4]
    assert all(p.shape == (3, 32, 48) and isinstance(p, ImageSet) for p in parts)
    for part in parts:
        assert (part.label.bincount() == len(part) // 2).all()
        assert all(splits.classes[label] in name for label, name in zip(part.label, part.names, strict=True))
    assert len({name for p in parts for name in p.names}) == 20
    other = image_folder(folder, 1)
    assert other.train.names != splits.train.names


def test_given_folders_are_kept(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for part, ids in (("train", range(14)), ("test", range(14, 20))):
        for k in ids:
            source = next(folder.rglob(f"{k:02d}.*"))
            target = root / part / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    splits = image_folder(root, 0)
    assert {Path(n).name[:2] for n in splits.test.names} == {f"{k:02d}" for k in range(14, 20)}
    assert len(splits.val) > 0
    assert len(splits.train) + len(splits.val) == 14


def test_aspect_ratio_and_exif_orientation_are_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (100, 50), "white")
    wide.paste("red", (0, 0, 50, 50))
    exif = wide.getexif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: the red half comes up
    wide.save(tmp_path / "a.png", exif=exif)
    pixels = decoding(image_size=(40, 40), fit="pad").read(tmp_path / "a.png")
    colour = pixels.astype(int)
    assert (colour[:, 10, 20] == [255, 0, 0]).all()  # above
    assert (colour[:, 30, 20] == [255, 255, 255]).all()  # below
    assert (colour[:, 20, 5] == 0).all()  # 20 x 40 in the frame: black to the left
    assert (colour[:, 20, 35] == 0).all()


def test_crop_fills_the_frame_from_the_centre(tmp_path: Path, photograph: Image.Image) -> None:
    photograph.save(tmp_path / "a.png")  # 640 x 427
    pixels = decoding(image_size=(40, 40)).read(tmp_path / "a.png")
    middle = photograph.crop((106, 0, 533, 427)).resize((40, 40), Image.Resampling.BICUBIC)
    assert np.abs(pixels.astype(int) - np.asarray(middle).transpose(2, 0, 1).astype(int)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_modes(tmp_path: Path, photograph: Image.Image, mode: str) -> None:
    crop = photograph.crop((0, 0, 48, 32))
    grey = np.asarray(crop.convert("L"))
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(name)
    elif mode in ("RGBA", "LA"):
        crop.convert("RGB").convert(mode).save(name)
    else:
        crop.convert(mode).save(name)
    pixels = decoding(channels=1).read(name)
    limit = {"1": 128, "P": 30, "CMYK": 20}.get(mode, 2)
    assert np.abs(pixels[0].astype(int) - grey).mean() < limit
    assert decoding(channels=3).read(name).shape == (3, 32, 48)
    header = read_header(name, 10**8)
    assert header.pixels == 48 * 32
    assert header.is_grey == (mode in ("L", "1", "LA", "I;16"))


def test_transparency_lies_on_black(tmp_path: Path) -> None:
    Image.new("RGBA", (48, 32), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert decoding().read(tmp_path / "clear.png").max() == 0


def test_streamed_is_what_is_kept(folder: Path) -> None:
    kept = image_folder(folder, 0).train
    streamed = image_folder(folder, 0, memory_gb=1e-6).train
    assert isinstance(kept, ImageSet)
    assert isinstance(streamed, FileSet)
    counters = torch.tensor([3, 1, 15])
    for one, two in zip(kept.__getitems__(counters), streamed.__getitems__(counters), strict=True):
        assert (one is None and two is None) or torch.equal(one, two)


def spoil(folder: Path, how: str) -> Path:
    victim = sorted(folder.rglob("*.png"))[0]
    if how == "truncated":
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    elif how == "text":
        victim.write_text("no image")
    elif how == "empty":
        victim.write_bytes(b"")
    else:
        Image.new("L", (3000, 2000)).save(victim)
    return victim


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "oversized"])
@pytest.mark.parametrize("memory_gb", [None, 1e-6])
def test_bad_images_are_named_or_skipped(folder: Path, how: str, memory_gb: float | None, caplog) -> None:
    victim = spoil(folder, how)
    options = {"max_pixels": 10**6, "memory_gb": memory_gb, "val_fraction": 0, "test_fraction": 0}
    with pytest.raises(InputError, match=victim.name):
        image_folder(folder, 0, **options).train.__getitems__(torch.arange(20))
    raw = image_folder(folder, 0, **options, on_bad_image="skip").train.__getitems__(torch.arange(19))
    assert len(raw.image) in (18, 19)
    assert victim.name in caplog.text


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "expected a folder"),
        (lambda root: root.mkdir(), "holds no images"),
        (
            lambda root: put(root, "train/a/x.png", "train/b/x.png", "test/a/x.png", "test/c/x.png"),
            "only in test.*x.png",
        ),
        (lambda root: put(root, "a/x.png", "b/x.png", "stray.png"), "stray.png lies beside"),
        (
            lambda root: put(root, "train/a/x.png", "train/b/x.png", "val/.hidden/x.png"),
            "val holds no images",
        ),
    ],
)
def test_bad_folders(tmp_path: Path, prepare, message: str) -> None:
    prepare(tmp_path / "root")
    with pytest.raises(InputError, match=message):
        image_folder(tmp_path / "root", 0)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 100).save(root / name)


def test_split_by_seed_is_even_over_classes_and_refuses_nonsense() -> None:
    label = torch.tensor([0] * 100 + [1] * 20 + [2])
    samples = FileSet(tuple((Path(f"{k:03d}.png"),) for k in range(121)), decoding(), label)
    train, val, test = split_by_seed(samples, 7, 0.1, 0.25)
    assert sorted((*train.names, *val.names, *test.names)) == list(samples.names)
    assert val.label.bincount(minlength=3).tolist() == [10, 2, 0]
    assert test.label.bincount(minlength=3).tolist() == [25, 5, 0]
    assert split_by_seed(samples, 8, 0.1, 0.25)[1].names != val.names
    with pytest.raises(InputError, match=r"0\.7 and 0\.7"):
        split_by_seed(samples, 7, 0.7, 0.7)


def test_manifest_reads_pairs(pair_manifest) -> None:
    path, angles = pair_manifest
    splits = manifest(path)
    sizes = [len(p) for p in (splits.train, splits.val, splits.test)]
    assert sum(sizes) == 8
    assert splits.classes == ("china", "flower")
    assert splits.train.shape == (1, 32, 48)
    for part in (splits.train, splits.val, splits.test):
        for name, angle in zip(part.names, part.angle.tolist(), strict=True):
            assert abs(math.degrees(angle) - angles[int(Path(name).stem[5:])]) < 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column 'image', found nothing"),
        ("image,angle_deg\na.png,3\n", "expected a column 'reference'"),
        ("image,reference\n", "at least one pair"),
        ("image,reference\nimage0.png,missing.png\n", r"line 2: the file .*missing\.png does not exist"),
        ("image,reference\nimage0.png\n", "line 2: the reference is empty"),
        ("image,reference,angle_deg\nimage0.png,reference0.png,left\n", "line 2: angle_deg='left': expected a number"),
        ("image,reference,angle_deg\nimage0.png,reference0.png,nan\n", "line 2: angle_deg"),
        ("image,reference,angle_deg\nimage0.png,reference0.png,\n", "line 2: angle_deg"),
    ],
)
def test_bad_manifests(pair_manifest, text: str, message: str) -> None:
    path, _ = pair_manifest
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        manifest(path)
