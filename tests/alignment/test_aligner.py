"""The angle between two images. Every expected angle is a rotation by another library."""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import kornia
import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import DEGREES, by_pillow, scene
from scipy import ndimage
from sklearn.datasets import load_sample_image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from stnrot import Aligner, align
from stnrot.alignment.posterior import log_likelihood
from stnrot.errors import InputError
from stnrot.geometry.correlation import correlate


def by_torch(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    return torch.rot90(image, 1, (-2, -1)), 90.0


def by_torchvision(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    return tv.rotate(image, DEGREES, InterpolationMode.BILINEAR), DEGREES


def by_kornia(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    return kornia.geometry.rotate(image[None], torch.tensor([DEGREES]))[0], DEGREES


def by_opencv(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    _, height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), DEGREES, 1.0)
    return torch.from_numpy(np.stack([cv2.warpAffine(c.numpy(), matrix, (width, height)) for c in image])), DEGREES


@pytest.mark.parametrize("turn", [by_torch, by_torchvision, by_kornia, by_pillow, by_opencv])
@pytest.mark.parametrize("size", [(64, 64), (65, 65), (120, 80), (71, 110)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_signed_angle_of_every_library(turn, size: tuple[int, int], channels: int) -> None:
    image = scene(*size, channels)
    turned, degrees = turn(image)
    found = align(image, turned)
    assert math.degrees(found.angle.item()) == pytest.approx(degrees, abs=0.3)
    assert found.confidence.item() > 0.95
    back = align(turned, image)
    assert math.degrees(back.angle.item()) == pytest.approx(-degrees, abs=0.3)
    if turned.shape == image.shape:
        inside = (..., slice(size[1] // 4, -size[1] // 4), slice(size[0] // 4, -size[0] // 4))
        assert (found.aligned[0] - turned)[inside].abs().mean() < 0.03


@pytest.mark.parametrize("side", [16, 17, 40, 300, 700, 2048])
def test_every_size(side: int) -> None:
    whole = Image.fromarray(load_sample_image("flower.jpg")).convert("L").crop((120, 20, 520, 420))
    images = [
        whole.rotate(turn, Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.LANCZOS, (80, 80, 320, 320))
        for turn in (0, 123)
    ]
    image, reference = (torch.from_numpy(np.array(p)) for p in images)
    found = align(image, reference)
    assert math.degrees(found.angle.item()) == pytest.approx(123, abs=2 if side < 20 else 0.3)


def test_images_of_different_sizes_and_shapes() -> None:
    large = scene(200, 200, 3)
    turned, degrees = by_pillow(large)
    small = Image.fromarray((turned.permute(1, 2, 0).numpy().clip(0, 1) * 255).astype(np.uint8))
    small = torch.from_numpy(np.array(small.resize((77, 77), Image.Resampling.LANCZOS))).permute(2, 0, 1)
    assert math.degrees(align(large, small).angle.item()) == pytest.approx(degrees, abs=0.3)
    assert math.degrees(align(small, large).angle.item()) == pytest.approx(-degrees, abs=0.3)
    wide = torch.nn.functional.pad(small, (30, 30, 0, 0))
    found = align(large, wide)
    assert math.degrees(found.angle.item()) == pytest.approx(degrees, abs=0.3)
    assert found.aligned.shape == (1, 3, 200, 200)


def test_a_batch_is_its_pairs_and_one_reference_serves_all() -> None:
    image = scene(60, 60)
    turns = [10.0, -75.0, 160.0]
    batch = torch.stack([tv.rotate(image, turn, InterpolationMode.BILINEAR) for turn in turns])
    together = align(batch, image)
    np.testing.assert_allclose(np.degrees(together.angle), [-t for t in turns], atol=0.3)
    for k in range(3):
        alone = align(batch[k], image)
        torch.testing.assert_close(together.angle[k], alone.angle[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.confidence[k], alone.confidence[0], atol=1e-3, rtol=0)


def test_brightness_contrast_and_negatives_do_not_matter() -> None:
    image = scene(64, 64)
    turned, degrees = by_pillow(image)
    for changed in (0.2 + 0.5 * turned, 1 - turned, 1000 * turned.double(), 1e36 * turned, 1e-36 * turned):
        found = align(image, changed.float())
        assert math.degrees(found.angle.item()) == pytest.approx(degrees, abs=0.3)
        assert found.confidence.item() > 0.95


def test_the_corners_of_a_rotated_image_are_black_whatever_the_batch() -> None:
    bright, dark = 0.5 + 0.5 * torch.rand(1, 30, 30), -torch.rand(1, 30, 30)
    batch = torch.stack([bright, dark])
    found = align(batch, torch.stack([tv.rotate(p, 45.0, InterpolationMode.BILINEAR) for p in batch]))
    for k in range(2):
        assert found.aligned[k, 0, 0, 0] == 0
        torch.testing.assert_close(found.aligned[k], align(batch[k], found.aligned[k]).aligned[0], atol=0.2, rtol=0)
    assert found.aligned[0].min() == 0
    assert found.aligned[1].max() == 0


def test_a_symmetric_image_has_all_its_angles() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    square = ((abs(x) < 15) & (abs(y) < 15)).astype(np.float32)
    bar = ((abs(x) < 24) & (abs(y) < 5)).astype(np.float32)
    corners = [(20 * math.cos(a), 20 * math.sin(a)) for a in np.arange(6) * math.pi / 3]
    hexagon = np.sum([np.exp(-((x - a) ** 2 + (y - b) ** 2) / 50) for a, b in corners], 0).astype(np.float32)
    for image, every in ((square, 90), (bar, 180), (hexagon, 60)):
        turned = ndimage.rotate(image, 20, reshape=False, order=1)
        found = align(torch.from_numpy(image), torch.from_numpy(turned))
        several = found.orientation.log_weight[0].exp() > min(0.2, 0.5 * every / 360)
        angles = np.sort(np.degrees(found.orientation.angle[0, several].numpy()) % 360)
        np.testing.assert_allclose(angles, np.arange(20, 360, every), atol=0.5)
        assert found.confidence.item() < every / 360 + 0.1


def test_unrelated_images_have_a_low_confidence() -> None:
    photographs = [load_sample_image(name).mean(2) for name in ("china.jpg", "flower.jpg")]
    china, flower = (
        torch.stack(
            [torch.from_numpy(p[a : a + 64, b : b + 64] / 255) for a in range(0, 360, 60) for b in range(0, 560, 60)]
        )[:, None]
        for p in photographs
    )
    unrelated = align(china.float(), flower.float()).confidence
    same = align(china.float(), torch.rot90(china.float(), 1, (2, 3))).confidence
    assert unrelated.mean() < 0.15
    assert same.mean() > 0.95
    noise, other = torch.rand(2, 200, 1, 28, 28)
    assert align(noise, other).confidence.mean() < 0.15


def test_a_ring_and_rounding_have_a_low_confidence() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(x, y)
    ring = 0.1 + 0.8 * ((radius > 10) & (radius < 28))
    first, second = (torch.from_numpy(ring + np.random.default_rng(k).normal(0, 0.03, ring.shape)) for k in (0, 1))
    assert align(first, second).confidence.item() < 0.6
    grey, also_grey = 0.5 + 1e-6 * torch.randn(2, 30, 1, 64, 64)
    assert align(grey, also_grey).confidence.mean() < 0.3


def test_a_faint_image_on_bright_ground() -> None:
    image = scene(64, 64)
    turned, degrees = by_pillow(image)
    found = align(1e5 + image, 1e5 + turned)
    assert math.degrees(found.angle.item()) == pytest.approx(degrees, abs=0.5)


def test_of_two_equal_peaks_the_one_that_is_no_negative_comes_first() -> None:
    """A ramp of brightness looks like its negative rotated by 180 degrees."""
    ramp = torch.linspace(0, 1, 64).expand(64, 64)
    for turn in (0, 1, 2, 3):
        found = align(ramp, torch.rot90(ramp, turn))
        error = math.remainder(math.degrees(found.angle.item()) - 90 * turn, 360)
        assert abs(error) < 0.1
        assert found.confidence.item() > 0.9


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_deep_files_keep_their_depth(tmp_path: Path, kind: str) -> None:
    """A contrast of 64 of 65,536 greys would vanish in 8 bits; in a float file greys may be negative."""
    image = scene(64, 64)
    for name, values in (("image", image), ("reference", by_pillow(image)[0])):
        pixels = values[0].numpy()
        deep = (3000 + 64 * pixels).astype(np.uint16) if kind == "png" else -2 - 0.001 * pixels
        Image.fromarray(deep).save(tmp_path / f"{name}.{kind}")
    found = align(tmp_path / f"image.{kind}", tmp_path / f"reference.{kind}")
    assert math.degrees(found.angle.item()) == pytest.approx(DEGREES, abs=0.5)


def test_files_with_exif_and_grey_beside_colour(tmp_path: Path) -> None:
    image = Image.fromarray((scene(90, 90, 3).permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    image.save(tmp_path / "image.png")
    turned = image.rotate(DEGREES, Image.Resampling.BICUBIC).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it clockwise by 90 degrees
    turned.rotate(90).save(tmp_path / "reference.jpg", exif=exif, quality=95)
    found = align(tmp_path / "image.png", str(tmp_path / "reference.jpg"))
    assert math.degrees(found.angle.item()) == pytest.approx(DEGREES, abs=0.3)
    assert found.aligned.shape == (1, 1, 90, 90)
    mixed = align(tmp_path / "image.png", scene(90, 90))
    assert mixed.angle.abs().item() < 0.01
    assert mixed.aligned.shape == (1, 1, 90, 90)
    several = align([tmp_path / "image.png"] * 2, tmp_path / "reference.jpg")
    assert several.angle.shape == (2,)


def test_an_image_that_cannot_be_aligned_is_named(tmp_path: Path) -> None:
    good = torch.rand(1, 30, 30)
    for bad, words in (
        (torch.full((30, 30), 0.3), r"image has one colour inside its inscribed disc"),
        (torch.stack([good, good * torch.nan]), r"image\[1\] contains NaN or infinite values"),
        (torch.rand(2, 30, 30), r"the image has 2 channels, the reference 1"),
        (torch.rand(30, 7), r"image is 7 x 30: expected sides of at least 8"),
        (torch.rand(30), r"image: expected \[B, C, H, W\], \[C, H, W\] or \[H, W\], got \[30\]"),
        (torch.zeros(30, 30, dtype=torch.int64), r"image has one colour inside its inscribed disc"),
        (
            torch.rand(30, 30).to(torch.complex64),
            r"image: expected real numbers, integers or bools, got torch.complex64",
        ),
        (tmp_path / "missing.png", r"there is no image .*missing\.png"),
        (tmp_path / f"{300 * 'a'}.png", r"cannot read the image .*aaa\.png: .*name too long"),
        ([], r"image: expected at least one image"),
    ):
        with pytest.raises(InputError, match=words):
            align(bad, good)
    with pytest.raises(InputError, match=r"3 images and 2 references"):
        align(torch.rand(3, 1, 20, 20), torch.rand(2, 1, 20, 20))
    corner = torch.zeros(30, 30)
    corner[0, 0] = 1  # outside the disc
    with pytest.raises(InputError, match="reference has one colour"):
        align(good, corner)
    Image.new("L", (20, 20)).save(tmp_path / "small.png")
    Image.new("L", (30, 20)).save(tmp_path / "large.png")
    with pytest.raises(
        InputError, match=r"large\.png is 30 x 20, .*small\.png is 20 x 20: expected images of one size"
    ):
        align([tmp_path / "small.png", tmp_path / "large.png"], good)


def test_float32_finds_the_angle_of_float64() -> None:
    """To rounding, although a Newton step there changes the error by less than its rounding."""
    images = [scene(side, side) for side in (28, 64, 130)]
    for image in images:
        turned = by_pillow(image)[0]
        found, exact = (align(image.to(dtype), turned.to(dtype)).angle for dtype in (torch.float32, torch.float64))
        torch.testing.assert_close(found.double(), exact, atol=3e-6, rtol=0)


def test_no_step_makes_subnormal_numbers() -> None:
    """They are slow. The tails of this likelihood are below the smallest normal number."""

    class NoSubnormals(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            for x in made if isinstance(made, tuple | list) else (made,):
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    assert not ((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).any(), function
            return made

    image = torch.rand(1, 1, 64, 64)
    turned = torch.rot90(image + 0.95 * torch.randn(1, 1, 64, 64), 1, (2, 3))
    with NoSubnormals():
        found = align(image, turned)
        assert not found.mirrored.any()
    probability = log_likelihood(correlate(image, turned))[0].softmax(1)
    assert ((probability != 0) & (probability < torch.finfo(torch.float32).tiny)).any()


def test_other_types_are_named(unchecked: None) -> None:
    image, kinds = torch.rand(30, 30), "a tensor, a NumPy array, a PIL image, the path of an image, or a list of these"
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: align(None, image), f"image: expected {kinds}, got NoneType"),
        (lambda: align(image, 3), f"reference: expected {kinds}, got int"),
        (
            lambda: align(image, image, model=3),
            "model: expected the path of a checkpoint, an Aligner or None, got int",
        ),
        (lambda: Aligner(refine="no"), "refine: expected one of True, False, got 'no'"),
        (lambda: Aligner(trust="package"), "trust: expected a list of names of packages, got 'package'"),
    ]
    for call, message in calls:
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value) == message
