"""Images for tests: parts of photographs, a folder and a manifest of them, and digits in the format of MNIST."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image, load_sample_images

CIFAR10_COUNTS = {"train": 20, "test": 10}  # of each class
DEGREES = 34.0  # angle of `by_pillow`


def scene(width: int, height: int, channels: int = 1) -> torch.Tensor:
    """Return an asymmetric image with a black border, so that a rotation cuts nothing off."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).crop((150, 30, 150 + width, 30 + height))
    pixels = np.asarray(photograph.convert("RGB" if channels == 3 else "L"), dtype=np.float32) / 255
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / min(height, width)
    window = np.clip((0.48 - radius) / 0.1, 0, 1).astype(np.float32)
    return torch.from_numpy(np.atleast_3d(pixels * window[..., None] if channels == 3 else pixels * window)).permute(
        2, 0, 1
    )


def by_pillow(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Rotate an image with Pillow; return it and the angle in degrees."""
    rotated = [Image.fromarray(c.numpy()).rotate(DEGREES, Image.Resampling.BICUBIC) for c in image]
    return torch.from_numpy(np.stack(rotated)), DEGREES


@pytest.fixture
def pair_manifest(tmp_path: Path) -> tuple[Path, list[float]]:
    """A manifest of eight pairs of photographs, rotated by Pillow, and the angles in degrees."""
    photographs = [Image.fromarray(p).convert("L") for p in load_sample_images().images]
    angles, lines = [], ["image,reference,angle_deg,label"]
    for k in range(8):
        centre = photographs[k % 2].crop((60 + 20 * k, 60, 220 + 20 * k, 220))
        rotations = 37.0 * k, 15.0 * k - 40
        for name, degrees in zip(("image", "reference"), rotations, strict=True):
            rotated = centre.rotate(degrees, Image.Resampling.BICUBIC)
            rotated.resize((40, 40), Image.Resampling.BOX).save(tmp_path / f"{name}{k}.png")
        angles.append(rotations[1] - rotations[0])
        lines.append(f"image{k}.png,reference{k}.png,{angles[-1]},{'china' if k % 2 == 0 else 'flower'}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, angles


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of a user: forty crops of two photographs, in two classes."""
    photographs = [Image.fromarray(p) for p in load_sample_images().images]
    for k in range(40):
        path = tmp_path / "mine" / ("temple", "flower")[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photographs[k % 2].crop((10 * k, 5 * k, 10 * k + 120, 5 * k + 90)).save(path)
    return tmp_path / "mine"


def cifar10_pixels(part: str) -> np.ndarray:
    """Return noise in the size of CIFAR-10's images, `[N, 32, 32, 3]`, for the part train or test."""
    shape = (10 * CIFAR10_COUNTS[part], 32, 32, 3)
    return np.random.default_rng(len(part)).integers(0, 255, shape, dtype=np.uint8)


def write_cifar10(root: Path) -> None:
    """Write these images as PNG in class folders, in class order backwards."""
    from stnrot.data.sources.cifar10 import CLASSES  # here, because torchvision takes a while to import

    for part, count in CIFAR10_COUNTS.items():
        for k, image in enumerate(cifar10_pixels(part)):
            path = root / part / CLASSES[9 - k // count] / f"{k:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def write_mnist(root: Path) -> None:
    """Write the digits of scikit-learn in MNIST's idx format, so that nothing is downloaded."""
    digits, labels = load_digits(return_X_y=True)
    images = np.kron(digits.reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2))).round().astype(np.uint8)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        taken = np.arange(count) % len(images)
        header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images[taken].tobytes())
        header = np.array([0x801, count], dtype=">i4").tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels[taken].astype(np.uint8).tobytes())
