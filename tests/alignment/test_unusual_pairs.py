"""Pairs that are hard, empty or of unusual numbers, with shifts: a right answer, a low confidence, or one line."""

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from stnrot import align
from stnrot.alignment.motion_kind import MotionKind
from stnrot.errors import InputError

CHINA = cv2.cvtColor(load_sample_image("china.jpg"), cv2.COLOR_RGB2GRAY)
SIDE = 96
MATRIX = cv2.getRotationMatrix2D((320, 210), 40, 1.0) + np.array([[0, 0, 54.5 - 320], [0, 0, 41.5 - 210]])
IMAGE = CHINA[163 : 163 + SIDE, 273 : 273 + SIDE]
REFERENCE = cv2.warpAffine(CHINA, MATRIX, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
EXPECTED = MATRIX + np.c_[np.zeros((2, 2)), MATRIX[:, :2] @ (273, 163)]
CORNERS = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]]).T


def pair(dtype: torch.dtype = torch.float32, scale: float = 1.0, offset: float = 0.0) -> list[torch.Tensor]:
    return [(torch.from_numpy(each).double() * scale + offset).to(dtype)[None] for each in (IMAGE, REFERENCE)]


def check(matrix: torch.Tensor, expected: np.ndarray = EXPECTED) -> None:
    assert np.abs((matrix.numpy() - expected) @ CORNERS).max() < 0.5


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [
        (torch.float64, 1e300, 0),
        (torch.float64, 1e-3, 1e6),
        (torch.float32, 1e-3, 1e6),  # steps of a sixteenth are left
        (torch.float32, -1, 5),
        (torch.float32, 1e-42, 0),
        (torch.float16, 1 / 255, 0),
        (torch.bfloat16, 1, -128),
        (torch.uint16, 257, 0),
        (torch.int64, 1e16, -(10**18)),
    ],
)
def test_the_motion_does_not_depend_on_the_type_and_the_range(dtype: torch.dtype, scale: float, offset: float) -> None:
    found = align(*pair(dtype, scale, offset), motion="rigid")
    check(found.matrix[0])
    assert found.confidence.item() > 0.9


def test_tensors_of_every_kind_have_one_answer() -> None:
    image, reference = pair()
    expected = align(image, reference, motion="rigid")
    with torch.inference_mode():
        inferred = image.clone()
    for each in (
        image.mT.contiguous().mT,
        torch.stack((image, image), -1)[..., 0],
        image.expand(3, 1, SIDE, SIDE),
        image.clone().requires_grad_(),
        inferred,
    ):
        found = align(each, reference.expand(len(each) if each.ndim == 4 else 1, 1, SIDE, SIDE), motion="rigid")
        torch.testing.assert_close(found.matrix, expected.matrix.expand_as(found.matrix), atol=1e-3, rtol=0)
        assert not found.aligned.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        found = align(image, reference, motion="rigid")
        assert not found.mirrored.item()
        torch.testing.assert_close(found.matrix, expected.matrix)


def test_threads_align_at_the_same_time() -> None:
    image, reference = pair()

    def matrix(rows: int) -> torch.Tensor:  # another size needs other constants
        return align(image[:, : SIDE - rows], reference, motion="rigid").matrix[0]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(matrix, range(4)))
    for rows, found in enumerate(together):
        check(found)
        torch.testing.assert_close(found, matrix(rows))


def test_what_can_be_seen_lies_outside_the_inscribed_disc() -> None:
    scene = np.zeros((200, 200), np.uint8)
    scene[:27, :27] = CHINA[203:230, 303:330]
    found = align(CHINA[203:230, 303:330], scene, motion="rigid")
    assert found.matrix[0].numpy() == pytest.approx(np.eye(3)[:2], abs=0.3)
    for image, reference, role in ((0 * scene, scene, "image"), (scene, 0 * scene, "reference")):
        with pytest.raises(InputError, match=f"{role} has one colour: no motion of it can be seen; expected structure"):
            align(image, reference, motion="rigid")
        with pytest.raises(InputError, match="has one colour inside its inscribed disc: no rotation"):
            align(image, reference)


@pytest.mark.parametrize("sides", [((96, 95), (96, 96)), ((95, 96), (96, 95)), ((97, 96), (96, 97))])
def test_sizes_that_differ_by_one_pixel(sides: tuple[tuple[int, int], tuple[int, int]]) -> None:
    made = []
    for (width, height), degrees in zip(sides, (-15, 0), strict=True):
        matrix = cv2.getRotationMatrix2D((320, 210), degrees, 1.0)
        matrix[:, 2] += ((width - 1) / 2 - 320, (height - 1) / 2 - 210)
        made.append((cv2.warpAffine(CHINA, matrix, (width, height), flags=cv2.INTER_CUBIC), matrix))
    (image, first), (reference, second) = made
    found = align(image, reference, motion="rigid")
    check(found.matrix[0], (second @ np.linalg.inv(np.vstack((first, (0, 0, 1))))))
    assert found.confidence.item() > 0.9


def disjoint() -> tuple[np.ndarray, np.ndarray]:
    return CHINA[20:116, 20:116], CHINA[250:346, 350:446]


def absent() -> tuple[np.ndarray, np.ndarray]:
    flower = cv2.cvtColor(load_sample_image("flower.jpg"), cv2.COLOR_RGB2GRAY)
    return flower[150:174, 200:224], CHINA[:300, :300]


def noise() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE), dtype=np.uint8)
    return first, second


def noise_for_a_sky() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(128, 2, (SIDE, SIDE)).round().astype(np.uint8), REFERENCE


def dots() -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of dots, and the same rotated: at four angles it is the same."""
    y, x = np.mgrid[:288, :288] % 16 - 7.5
    grid = ((np.hypot(x, y) < 4) * 255).astype(np.uint8)
    matrix = cv2.getRotationMatrix2D((47.5, 47.5), 20, 1.0)
    return grid[:SIDE, :SIDE], cv2.warpAffine(
        np.roll(grid, (96, 96), (0, 1)), matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC
    )


@pytest.mark.parametrize("images", [disjoint, absent, noise, noise_for_a_sky, dots])
def test_without_a_right_answer_the_confidence_is_low(images) -> None:
    image, reference = images()
    found = align(image, reference, motion="rigid")
    assert found.matrix.isfinite().all()
    assert found.confidence.item() < 0.5


def spots(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return an image of bright spots at random places."""
    y, x = np.mgrid[:SIDE, :SIDE][..., None]
    across, down = generator.uniform(20, SIDE - 20, (2, count))
    return np.exp(((x - across) ** 2 + (y - down) ** 2) / -12.5).sum(2)


def bright_pixel(generator: np.random.Generator) -> np.ndarray:
    image = np.zeros((SIDE, SIDE))
    image[tuple(generator.integers(20, SIDE - 20, 2))] = 1
    return image


@pytest.mark.parametrize("motion", ["rigid", "similarity"])
@pytest.mark.parametrize("images", ["a pixel and photographs", "two spots", "three spots"])
def test_what_matches_by_chance_has_a_low_confidence_on_average(images: str, motion: MotionKind) -> None:
    generator = np.random.default_rng(0)
    if images == "a pixel and photographs":
        photos = [CHINA[y : y + SIDE, x : x + SIDE] for y in (100, 200, 300) for x in (100, 250, 400, 500)]
        pairs = [(bright_pixel(generator), photo) for photo in photos]
    else:
        count = 2 if images == "two spots" else 3
        pairs = [(spots(count, generator), spots(count, generator)) for _ in range(12)]
    image, reference = (np.stack(each)[..., None] for each in zip(*pairs, strict=True))
    assert align(image, reference, motion=motion).confidence.mean() < 0.3


def test_half_of_both_images_is_plain() -> None:
    image, reference = IMAGE.copy(), REFERENCE.copy()
    image[:, :20], reference[:40] = 0, 200
    found = align(image, reference, motion="rigid")
    assert math.degrees(found.angle.item()) == pytest.approx(40, abs=2)
    assert np.abs((found.matrix[0].numpy() - EXPECTED) @ CORNERS).max() < 3
