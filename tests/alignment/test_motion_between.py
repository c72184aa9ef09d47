"""Angle, shift and scale between two images. OpenCV makes every pair, and so every expected matrix."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data, transform
from sklearn.datasets import load_sample_image

from stnrot import align
from stnrot.alignment.motion import Motion
from stnrot.alignment.motion_between import motion_between
from stnrot.alignment.motion_kind import MotionKind
from stnrot.errors import InputError
from stnrot.geometry import rotate

CHINA = load_sample_image("china.jpg")
SIZES = {  # image, reference
    "small": ((40, 40), (40, 40)),
    "square": ((96, 96), (96, 96)),
    "odd": ((131, 120), (131, 120)),
    "two shapes": ((200, 160), (121, 140)),
    "template": ((60, 60), (200, 170)),
    "large": ((250, 333), (222, 321)),
}


def view(
    size: tuple[int, int],
    degrees: float,
    shift: tuple[float, float],
    scale: float = 1.0,
    photo: np.ndarray = CHINA,
    centre: tuple[float, float] = (320, 210),
) -> tuple[np.ndarray, np.ndarray]:
    """Return a part of a photograph, rotated, shifted and scaled, and the matrix that made it."""
    matrix = cv2.getRotationMatrix2D(centre, degrees, scale)
    matrix[:, 2] += (np.array(size) - 1) / 2 - centre + shift
    return cv2.warpAffine(photo, matrix, size, flags=cv2.INTER_CUBIC), matrix


def between(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the matrix of the image onto the reference, from the matrices that made them."""
    image, reference = (np.vstack((each, (0, 0, 1))) for each in (image, reference))
    return (reference @ np.linalg.inv(image))[:2]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("degrees", "share"), [(0, (0, 0)), (50, (0.1, -0.06)), (-160, (-0.2, 0.15)), (90, (0, 0.05))])
def test_the_matrix_is_that_of_opencv(sizes: str, degrees: float, share: tuple[float, float]) -> None:
    size, other = SIZES[sizes]
    side = min(*size, *other)
    image, made = view(size, degrees, (share[0] * side, share[1] * side))
    reference, other_made = view(other, 0, (0, 0))
    found = align(image, reference, motion="rigid")
    expected = between(made, other_made)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
    assert np.abs((found.matrix[0].numpy() - expected) @ corners).max() < 0.5
    assert math.degrees(found.angle.item()) == pytest.approx((180 - degrees) % 360 - 180, abs=0.2)
    middle = expected @ [(size[0] - 1) / 2, (size[1] - 1) / 2, 1]
    assert found.shift[0].numpy() == pytest.approx(middle - (np.array(other) - 1) / 2, abs=0.3)
    assert found.scale.item() == pytest.approx(1, abs=1e-5)
    assert found.confidence.item() > 0.8
    ones = cv2.warpAffine(np.ones(image.shape[:2]), expected, other, flags=cv2.INTER_NEAREST)
    assert found.overlap.item() == pytest.approx(ones.mean(), abs=0.02)


@pytest.mark.parametrize("sizes", ["small", "square", "two shapes", "template"])
@pytest.mark.parametrize("scale", [0.75, 1.0, 1.3])
@pytest.mark.parametrize(("degrees", "share"), [(50, (0.1, -0.06)), (-160, (0, 0.05))])
def test_the_scale_is_that_of_opencv(sizes: str, scale: float, degrees: float, share: tuple[float, float]) -> None:
    size, other = SIZES[sizes]
    side = min(*size, *other)
    image, made = view(size, degrees, (share[0] * side, share[1] * side), scale)
    reference, other_made = view(other, 0, (0, 0))
    found = align(image, reference, motion="similarity")
    expected = between(made, other_made)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
    assert np.abs((found.matrix[0].numpy() - expected) @ corners).max() < 0.3
    assert found.scale.item() == pytest.approx(1 / scale, rel=0.01)
    assert math.degrees(found.angle.item()) == pytest.approx((180 - degrees) % 360 - 180, abs=0.2)
    middle = expected @ [(size[0] - 1) / 2, (size[1] - 1) / 2, 1]
    assert found.shift[0].numpy() == pytest.approx(middle - (np.array(other) - 1) / 2, abs=0.2)
    assert found.confidence.item() > 0.9
    ones = cv2.warpAffine(np.ones(image.shape[:2]), expected, other, flags=cv2.INTER_NEAREST)
    assert found.overlap.item() == pytest.approx(ones.mean(), abs=0.01)


@pytest.mark.parametrize("scale", [0.75, 1.3])
def test_a_scaled_image_lies_on_the_reference_by_opencv_and_by_scikit_image(scale: float) -> None:
    image, _ = view((150, 120), 70, (8, -3), scale)
    reference, _ = view((120, 140), 0, (0, 0))
    found = align(image, reference, motion="similarity")
    matrix = found.matrix[0].numpy()
    expected = cv2.warpAffine(image, matrix, (120, 140), flags=cv2.INTER_CUBIC)
    assert (found.aligned.dtype, found.aligned.shape) == (np.uint8, (140, 120, 3))
    assert np.abs(found.aligned.astype(float) - expected).mean() < 0.5
    inverse = transform.AffineTransform(np.vstack((matrix, (0, 0, 1)))).inverse
    warped = 255 * transform.warp(image, inverse, output_shape=(140, 120), order=3)
    seen = cv2.warpAffine(np.ones(image.shape[:2]), matrix, (120, 140)) > 0.99
    assert np.abs(warped - found.aligned)[seen].mean() < 2
    assert np.abs(warped - reference)[seen].mean() < 6
    moved_away = np.roll(warped, 1, 1)
    assert np.abs(moved_away - reference)[seen].mean() > 10


@pytest.mark.parametrize("motion", ["rigid", "similarity"])
def test_doubles_are_aligned_in_double_precision(motion: MotionKind) -> None:
    image, reference = (view((96, 96), degrees, (3, 2))[0].mean(2) for degrees in (35, 0))
    found = align(image, reference, motion=motion)
    offset = 1e9  # in single precision all grey values would become a few
    same = align(image + offset, reference + offset, motion=motion)
    assert same.matrix.dtype is torch.float64
    torch.testing.assert_close(same.matrix, found.matrix, atol=1e-6, rtol=0)
    assert same.angle.item() == pytest.approx(found.angle.item(), abs=1e-8)


def test_the_aligned_image_is_that_of_opencv_in_the_frame_of_the_reference() -> None:
    image, _ = view((150, 120), 70, (8, -3))
    reference, _ = view((120, 140), 0, (0, 0))
    found = align(image, reference, motion="rigid")
    expected = cv2.warpAffine(image, found.matrix[0].numpy(), (120, 140), flags=cv2.INTER_CUBIC)
    assert (found.aligned.dtype, found.aligned.shape) == (np.uint8, (140, 120, 3))
    assert np.abs(found.aligned.astype(float) - expected).mean() < 0.5
    seen = cv2.warpAffine(np.ones(image.shape[:2]), found.matrix[0].numpy(), (120, 140)) > 0.99
    assert np.abs(found.aligned.astype(float) - reference)[seen].mean() < 4
    pictures = align([Image.fromarray(image)], Image.fromarray(reference), motion="rigid").aligned
    assert isinstance(pictures[0], Image.Image)
    assert pictures[0].size == (120, 140)
    tensor = torch.from_numpy(image).movedim(-1, 0)
    moved = align(tensor, torch.from_numpy(reference).movedim(-1, 0), motion="rigid").aligned
    assert np.abs(moved[0].movedim(0, -1).numpy().astype(float) - found.aligned).mean() < 0.5


def test_rotation_alone_has_a_matrix_too() -> None:
    image, _ = view((90, 80), 0, (0, 0))
    matrix = cv2.getRotationMatrix2D((44.5, 39.5), 35, 1.0)
    found = align(image, cv2.warpAffine(image, matrix, (90, 80), flags=cv2.INTER_CUBIC))
    assert found.matrix[0].numpy() == pytest.approx(matrix, abs=0.1)
    assert found.shift.tolist() == [[0, 0]]
    larger = cv2.resize(image, (180, 160), interpolation=cv2.INTER_CUBIC)
    found = align(image, larger)
    assert found.scale.item() == 2
    assert found.matrix[0].numpy() == pytest.approx(np.array([[2, 0, 0.5], [0, 2, 0.5]]), abs=0.05)


@pytest.mark.parametrize("degrees", [20, 60, 130])
def test_what_is_hidden_does_not_count(degrees: float) -> None:
    image, made = view((128, 128), degrees, (6, 7))
    reference, other_made = view((128, 128), 0, (0, 0))
    image[20:80, 60:120] = 255
    expected = between(made, other_made)
    found = align(image, reference, motion="rigid")
    assert found.matrix[0].numpy() == pytest.approx(expected, abs=1)
    assert found.confidence.item() > 0.5


@pytest.mark.parametrize("motion", ["rigid", "similarity"])
def test_a_batch_is_aligned_as_its_pairs_are(motion: MotionKind) -> None:
    views = [view((64, 64), 40 * k, (k, -k), 1.05**k if motion == "similarity" else 1.0) for k in range(5)]
    images, reference = np.stack([each for each, _ in views]), view((64, 64), 0, (0, 0))[0]
    found = align(images, reference, motion=motion)
    for k in range(5):
        single = align(images[k], reference, motion=motion)
        torch.testing.assert_close(found.matrix[k], single.matrix[0], atol=1e-3, rtol=0)
        assert found.confidence[k].item() == pytest.approx(single.confidence.item(), abs=0.01)
    assert found.matrices.shape == (5, *found.orientation.angle.shape[1:], 2, 3)
    assert found.aligned.shape == (5, 64, 64, 3)
    masks = torch.ones(5, 1, 64, 64)
    expected = [
        cv2.warpAffine(np.ones((64, 64), np.float32), matrix.numpy(), (64, 64), flags=cv2.INTER_CUBIC)
        for matrix in found.matrix
    ]
    assert np.abs(found.moved(masks)[:, 0].numpy() - np.stack(expected)).mean() < 0.01


def test_unrelated_images_have_a_low_confidence() -> None:
    flower = load_sample_image("flower.jpg")
    parts = [flower[y : y + 96, x : x + 96] for y in (50, 200, 300) for x in (60, 220, 400)]
    found = align(np.stack(parts), view((96, 96), 0, (0, 0))[0], motion="rigid")
    assert found.confidence.mean() < 0.5


@pytest.mark.parametrize(("motion", "scale"), [("similarity", 2.0), ("similarity", 0.4), ("rigid", 2.0)])
def test_a_wrong_angle_for_a_scale_out_of_range_has_a_low_confidence(motion: MotionKind, scale: float) -> None:
    places = [
        *((CHINA, centre) for centre in ((320, 210), (200, 150), (450, 250))),
        *((load_sample_image("flower.jpg"), centre) for centre in ((320, 210), (250, 180), (400, 260))),
        *((cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB), centre) for centre in ((256, 200), (200, 300))),
    ]
    images, references = (
        np.stack([view((96, 96), degrees, (0, 0), size, *place)[0] for place in places])
        for degrees, size in ((50, scale), (0, 1))
    )
    found = align(images, references, motion=motion)
    wrong = (torch.rad2deg(found.angle) + 50).abs() > 5
    assert wrong.sum() > 3
    assert found.confidence[wrong].mean() < 0.45


def test_a_mirror_image_is_named() -> None:
    image, _ = view((96, 96), 30, (4, 2))
    reference, _ = view((96, 96), 0, (0, 0))
    assert align(image[:, ::-1].copy(), reference, motion="rigid").mirrored.item()
    assert not align(image, reference, motion="rigid").mirrored.item()


def test_the_inverse_and_another_middle_of_a_motion() -> None:
    generator = torch.Generator().manual_seed(0)
    angle, scale = torch.rand(2, 3, 2, generator=generator) * 6
    offset, point = torch.randn(2, 3, 2, generator=generator, dtype=torch.complex64)
    motion = Motion(Motion.about_middle(angle, scale + 0.5).linear, offset)
    place = motion.linear * point + motion.offset
    back = motion.inverse()
    torch.testing.assert_close(back.linear * place + back.offset, point, atol=1e-5, rtol=1e-5)
    moved = motion.recentred(-0.5 + 0j, 0.25j)
    torch.testing.assert_close(moved.linear * (point + 0.25j) + moved.offset, place - 0.5)


def test_the_angle_is_that_of_rotate() -> None:
    image = torch.from_numpy(view((80, 80), 0, (0, 0))[0]).movedim(-1, 0) / 255.0
    found = align(image, rotate(image, 1.0, "bicubic"), motion="rigid")
    assert found.angle.item() == pytest.approx(1.0, abs=0.003)
    assert found.shift.abs().max() < 0.05


def test_an_unknown_motion_is_one_line(unchecked: None) -> None:
    image = torch.rand(32, 32)
    with pytest.raises(InputError, match="motion: expected one of rotation, rigid, similarity, got 'affine'"):
        align(image, image, motion="affine")


@pytest.mark.parametrize("degrees", [0, 180])
def test_a_prior_decides_where_the_pixels_do_not(degrees: int) -> None:
    image = torch.from_numpy(view((64, 64), 0, (0, 0))[0]).float().mean(-1)[None, None]
    both = image + torch.rot90(image, 2, (2, 3))  # looks the same after half a turn
    bins = torch.arange(64) * (2 * math.pi / 64)
    prior = (4 * (bins - math.radians(degrees)).cos()).log_softmax(0)[None]
    angle = motion_between(both, both, "rigid", prior)[0].angle[0, 0]
    assert abs(math.remainder(math.degrees(angle) - degrees, 360)) < 0.1
