"""The pairs of benchmarks/pairs.py have the stated angle, and its classical methods find it."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from harness import pair_methods, pair_sets

METHODS = {
    "scikit-image polar": partial(pair_methods.polar, normalization=None),
    "brute force": pair_methods.brute_force,
    "ECC": partial(pair_methods.ecc, starts=16),
    "kornia": partial(pair_methods.registrator, starts=8),
}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    y, x = np.mgrid[: a.shape[0], : a.shape[1]] - (np.array(a.shape) - 1)[:, None, None] / 2
    disc = np.hypot(x, y) < 0.45 * len(a)
    return float(np.corrcoef(a[disc], b[disc])[0, 1])


@pytest.mark.parametrize(("level", "least"), [("clean", 0.98), ("noisy", 0.5), ("inverted", -0.98)])
def test_torchvision_rotates_the_image_onto_the_reference(level: str, least: float) -> None:
    images, references, angles = pair_sets.pairs("photographs 64", level, 6, Path())
    for image, reference, angle in zip(images, references, angles, strict=True):
        rotated = tv.rotate(torch.from_numpy(image)[None].float(), math.degrees(angle), InterpolationMode.BILINEAR)
        found = correlation(rotated[0].numpy(), reference)
        assert found > least if least > 0 else found < least


def test_pairs_do_not_depend_on_their_number() -> None:
    few, more = (pair_sets.pairs("photographs 64", "hard", count, Path()) for count in (2, 4))
    for a, b in zip(few, more, strict=True):
        np.testing.assert_array_equal(a, b[:2])


@pytest.mark.parametrize("level", ["shifted", "scaled"])
def test_opencv_lays_the_image_on_the_reference_by_angle_shift_and_scale(level: str) -> None:
    cv2 = pytest.importorskip("cv2")
    made = pair_sets.shifted_pairs("photographs 64", level, 6, Path())
    for image, reference, angle, (x, y), scale in zip(*made, strict=True):
        assert scale == 1 if level == "shifted" else 0.7 <= scale <= 1.4
        matrix = cv2.getRotationMatrix2D((31.5 + x, 31.5 + y), math.degrees(angle), scale) - [[0, 0, x], [0, 0, y]]
        moved, seen = (cv2.warpAffine(each, matrix, (64, 64)) for each in (image, np.ones((64, 64), np.uint8)))
        inside = cv2.erode(seen, np.ones((5, 5))) > 0
        smooth = [cv2.GaussianBlur(each, (5, 5), 0)[inside] for each in (moved, reference)]
        assert np.corrcoef(*smooth)[0, 1] > 0.96


def test_a_part_is_rotated_as_by_pillow_and_moved_right_and_down() -> None:
    image = pair_sets.photograph("camera.png")
    place = (image, (200.0, 180.0))
    rotated = pair_sets._rotated(place, math.radians(40), np.array([3.0, 2.0]), 64)
    whole = image.rotate(40, Image.Resampling.BICUBIC, center=(200, 180))
    expected = np.asarray(whole.crop((200 - 35, 180 - 34, 200 + 29, 180 + 30)), dtype=np.float64) / 255
    np.testing.assert_allclose(rotated, expected, atol=2 / 255)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.ci] * (name == "kornia")) for name in METHODS])
def test_the_methods_find_quarter_turns_and_others(name: str) -> None:
    images, references, angles = pair_sets.pairs("photographs 64", "clean", 3, Path())
    quarter = np.ascontiguousarray(np.rot90(images[0]))
    cases = [(quarter, images[0], -math.pi / 2), (images[0], quarter, math.pi / 2)]
    cases += zip(images, references, angles, strict=True)
    for image, reference, angle in cases[2:3] if name == "kornia" else cases:  # which takes seconds
        found = METHODS[name](image / 255, reference / 255)
        assert abs(math.degrees(math.remainder(found - angle, 2 * math.pi))) < 1


@pytest.mark.parametrize(
    ("name", "angle", "scale"),
    [("sift", 130, 1.2), ("fourier", 97, 1), ("fourier", -50, 0.8), ("stackreg", 10, 1), ("stackreg", -8, 1.1)],
)
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_the_methods_find_a_motion_that_opencv_made(name: str, angle: float, scale: float) -> None:
    cv2 = pytest.importorskip("cv2")
    image = np.asarray(pair_sets.photograph("camera.png").resize((128, 128)))
    matrix = cv2.getRotationMatrix2D((63.5, 63.5), angle, scale) + np.array([[0, 0, 6], [0, 0, -4]])
    reference = cv2.warpAffine(image, matrix, (128, 128), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    place = np.linalg.solve(matrix[:, :2], [63.5, 63.5] - matrix[:, 2]) - 63.5
    scaled = {} if name == "sift" else {"scaled": scale != 1}
    found = getattr(pair_methods, name)(image / 255, reference / 255, **scaled)
    assert math.degrees(found[0]) == pytest.approx(angle, abs=0.5)
    np.testing.assert_allclose(found[1], place, atol=0.5)
    assert found[2] == pytest.approx(scale, rel=0.01)
