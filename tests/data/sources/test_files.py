"""Real files of every kind, good and bad. The ground truth is the image that Pillow itself reads."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, WebPImagePlugin
from sklearn.datasets import load_sample_images

from stnrot.data.image_file import read_header, read_upright, read_whole
from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
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


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", None, "test"),
        ("train", "val", "test"),
        ("Training", None, "Testing"),
        ("TRAIN", "VALID", "TEST"),
        ("train", "validation", None),
        ("train", "dev", "test"),
        ("train_set", "val_set", "test_set"),
        ("trainset", "Validation Set", "test-data"),
        ("train_images", "val", "TestImages"),
        ("seg_train", None, "seg_test"),
        ("train2017", "val2017", None),
        ("Train_Alphabet", None, "Test_Alphabet"),
    ],
)
def test_given_folders_are_kept(folder: Path, tmp_path: Path, train: str, val: str | None, test: str | None) -> None:
    root = tmp_path / "split"
    given = {"train": (train, range(14)), "val": (val, range(10, 14)), "test": (test, range(14, 20))}
    for name, ids in given.values():
        for k in ids if name else ():
            source = next(folder.rglob(f"{k:02d}.*"))
            target = root / str(name) / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    (root / "annotations").mkdir()
    (root / "annotations" / "all.json").write_text("{}")
    splits = image_folder(root, 0)
    assert splits.classes == ("roof", "sky")
    for part, (name, ids) in given.items():
        found = getattr(splits, part).names
        assert len(found) > 0
        if name is not None and (part != "train" or (val and test)):
            assert {Path(n).name[:2] for n in found} == {f"{k:02d}" for k in ids}
            assert all(f"/{name}/" in n for n in found)
    total = 14 + (4 if val else 0) + (6 if test else 0)
    assert len(splits.train) + len(splits.val) + len(splits.test) == total


def test_the_folders_that_are_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "cat/1.png", "cat/old/deeper/2.PNG", "dog/3.png", "dog/x.png/4.png", "test tube/5.png")
    put(root, "train station/6.png", "cat/.hidden/7.png", ".trash/8.png", "__MACOSX/cat/9.png")
    put(root, "cat/._1.png", "dog/@eaDir/10.png", "$RECYCLE.BIN/11.png")
    for name in (".DS_Store", "Thumbs.db", "cat/.DS_Store", "cat/Thumbs.db", "notes.txt"):
        (root / name).write_bytes(b"x")
    (root / "empty").mkdir()
    put(tmp_path, "elsewhere/12.png", "elsewhere/13.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "upwards").symlink_to(root)
    splits = image_folder(root, 0, val_fraction=0, test_fraction=0)
    assert splits.classes == ("cat", "dog", "linked", "test tube", "train station")
    tops = [Path(name).relative_to(root).parts[0] for name in splits.train.names]
    assert [splits.classes[k] for k in splits.train.label] == tops
    assert [Path(name).stem for name in splits.train.names] == ["1", "2", "3", "4", "12", "13", "5", "6"]


def test_inside_a_folder_train_every_name_is_a_class(tmp_path: Path) -> None:
    put(tmp_path, "train/train/1.png", "train/test/2.png", "train/bus/3.png")
    assert image_folder(tmp_path, 0, val_fraction=0, test_fraction=0).classes == ("bus", "test", "train")


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


def test_a_large_jpeg_is_decoded_at_a_smaller_size_which_changes_little(tmp_path: Path, photograph) -> None:
    photograph.resize((1280, 854)).save(tmp_path / "a.jpg", quality=90)
    assert read_upright(tmp_path / "a.jpg", 3, 10**7, (64, 64)).size == (320, 214)  # 1/4
    pixels = decoding(image_size=(64, 64)).read(tmp_path / "a.jpg").astype(int)
    with Image.open(tmp_path / "a.jpg") as whole:
        expected = decoding(image_size=(64, 64)).fitted(whole).astype(int)
    assert np.abs(pixels - expected).mean() < 2
    assert np.abs(pixels - expected).max() < 32


def test_a_jpeg_on_its_side_is_not_decoded_too_small(tmp_path: Path, photograph) -> None:
    upright = photograph.resize((2048, 512))
    exif = Image.Exif()
    exif[274] = 6  # shown a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = decoding(image_size=(256, 32)).read(tmp_path / "a.jpg").astype(int)  # 1/4 would leave a height of 128
    expected = decoding(image_size=(256, 32)).fitted(upright).astype(int)
    assert np.abs(pixels - expected).mean() < 2


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


@pytest.mark.parametrize("limit", [700, 2000, None])  # below half of the pixels, below them, none
@pytest.mark.parametrize(
    "kind", ["png", "jpg", "bmp", "gif", "ppm", "webp", "tif", "tif lzw", "tif I;16", "tif turned"]
)
@pytest.mark.filterwarnings("error")
def test_pillows_limit_is_left_alone_and_does_not_apply(
    tmp_path: Path, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int | None
) -> None:
    crop = photograph.crop((0, 0, 60, 40))
    path = tmp_path / f"a.{kind.split()[0]}"
    exif = crop.getexif()
    exif[0x0112] = 6
    options = {"tif lzw": {"compression": "tiff_lzw"}, "tif turned": {"exif": exif}, "webp": {"lossless": True}}
    if kind == "tif I;16":
        crop = Image.fromarray(np.asarray(crop.convert("L")).astype(np.uint16) * 257)
    crop.save(path, **options.get(kind, {}))
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("I" if kind == "tif I;16" else "RGB"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if kind == "webp" and limit == 700 and hasattr(WebPImagePlugin, "_get_size"):  # Pillow 12 and later check it
        with pytest.raises(InputError, match=r"a\.webp: .*limit of 1400 .*; convert it, or raise PIL"):
            read_header(path, 10**4)
    else:
        assert read_header(path, 10**4).pixels == 2400
        pixels = read_whole(path, 3, 10**4)
        assert np.array_equal(pixels[..., 0] * 65535 if kind == "tif I;16" else pixels, expected)
        assert decoding(image_size=expected.shape[:2]).read(path).shape == (3, *expected.shape[:2])
        with pytest.raises(InputError, match="expected at most 2399 pixels"):
            read_header(path, 2399)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_importing_leaves_pillows_limit_alone() -> None:
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3  # Pillow's own value


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
        (lambda root: put(root, "train/a/x.png", "Train/b/x.png"), "two folders for the train set, Train and train"),
        (lambda root: put(root, "train/a/x.png", "val/a/x.png", "valid/a/x.png"), "for the val set, val and valid"),
        (
            lambda root: put(root, "train/a/x.png", "test/a/x.png", "eval/a/x.png"),
            "root has test, train, beside eval: expected the split folders train, val and test alone; move",
        ),
        (lambda root: put(root, "train/a/x.png", "stray.png"), "root has train, beside stray.png"),
        (
            lambda root: put(root, "car/x.png", "bus/x.png", "train/x.png"),
            "has train, beside bus: .* or, if train is a class, put all classes into a folder train",
        ),
        (
            lambda root: put(root, "cat/x.png", "dog/x.png", "test/x.png"),
            "root has test, beside cat: .* if test is a class",
        ),
        (lambda root: put(root, "test/cat/x.png", "test/dog/x.png"), "root has test, but no train"),
        (lambda root: put(root, "Testing/a/x.png", "validation/a/x.png"), "has Testing, validation, but no train"),
        (
            lambda root: put(root, "a/train/x.png", "a/test/y.png"),
            r"root/a holds .* test, train: .*set data.root=.*root/a",
        ),
        (
            lambda root: put(root, "train/a/train/x.png", "train/a/Val/y.png"),
            "train/a holds the split folders Val, train",
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
    samples = FileSet((FileNames.of(f"{k:03d}.png" for k in range(121)),), decoding(), label)
    train, val, test = split_by_seed(samples, 7, 0.1, 0.25)
    assert sorted((*train.names, *val.names, *test.names)) == list(samples.names)
    assert val.label.bincount(minlength=3).tolist() == [10, 2, 0]
    assert test.label.bincount(minlength=3).tolist() == [25, 5, 0]
    assert [*split_by_seed(samples, 8, 0.1, 0.25)[1].names] != [*val.names]
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
