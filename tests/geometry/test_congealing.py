import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_digits

from stnrot.errors import InputError
from stnrot.geometry.congealing import congeal, rotation_onto


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return digits of three classes that scipy has rotated, their labels and the angles (degrees) of the rotation."""
    chosen = load_digits()
    images, labels, turns = [], [], np.random.default_rng(0).uniform(0, 360, 360)
    for label, digit in enumerate((3, 7, 9)):
        for image in chosen.images[chosen.target == digit][:120]:
            large = np.pad(ndimage.zoom(image / 16, 2.5, order=3), 4)
            images.append(ndimage.rotate(large, turns[len(images)], reshape=False, order=3))
            labels.append(label)
    return torch.from_numpy(np.stack(images))[:, None].float(), torch.tensor(labels), turns


def upright_of(angle: np.ndarray, turns: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the angle of the upright that was found, and the distances of the images to it, in degrees."""
    error = np.exp(1j * np.radians(np.degrees(angle) + turns))
    mean = np.angle(error.mean())
    return float(np.degrees(mean)), np.degrees(np.abs(np.angle(error * np.exp(-1j * mean))))


def test_each_class_has_one_upright_and_similar_classes_have_the_same(digits) -> None:
    image, label, turns = digits
    angle = rotation_onto(image, congeal(image, label, 3)[label])[0].numpy()
    uprights = []
    for each in range(3):
        upright, distance = upright_of(angle[label == each], turns[label == each])
        assert np.median(distance) < 8
        assert (distance < 45).mean() > 0.95
        uprights.append(upright)
    spread = np.abs(np.angle(np.exp(1j * np.radians(np.subtract.outer(uprights, uprights))), deg=True))
    assert spread.max() < 40


def test_two_labels_of_the_same_shapes_get_the_same_upright(digits) -> None:
    image, _, turns = (each[:120] for each in digits)
    halves = torch.arange(120) % 2
    angle = rotation_onto(image, congeal(image, halves, 2)[halves])[0].numpy()
    first, second = (upright_of(angle[half::2], turns[half::2])[0] for half in (0, 1))
    assert abs(np.angle(np.exp(1j * np.radians(first - second)), deg=True)) < 8


def test_a_class_without_images_is_black(digits) -> None:
    image, label, _ = digits
    means = congeal(image[:20], label[:20] + 1, 3)
    assert means[1].any()
    assert not means[[0, 2]].any()
    assert not congeal(image[:0], label[:0], 2).any()


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_out_of_range_is_named(digits, wrong: int) -> None:
    image, _, _ = digits
    with pytest.raises(InputError, match="label: expected whole numbers from 0 to 2, got"):
        congeal(image[:4], torch.tensor([0, 1, 2, wrong]), 3)
