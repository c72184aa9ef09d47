"""Pairs of images with a known angle: MNIST digits and parts of photographs, rotated by Pillow, clean to hard."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.datasets import MNIST

LEVELS = ("clean", "noisy", "hard", "inverted", "other instance", "unrelated")
# the most along each axis, as a share of the side
SHIFTS = {"hard": 0.07, "shifted": 0.07, "shifted far": 0.25, "scaled": 0.07}
SEEDS = {level: k for k, level in enumerate((*LEVELS, "shifted", "shifted far", "scaled"))}
SCALES = 0.7, 1.4  # of pairs that are scaled
SIZES = {"mnist": 28, "photographs 64": 64, "photographs 128": 128, "photographs 256": 256}
TESTED = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
TRAINED = {
    "train": (
        "brick.png",
        "cell.png",
        "china.jpg",
        "clock_motion.png",
        "coins.png",
        "flower.jpg",
        "grass.png",
        "horse.png",
        "hubble_deep_field.jpg",
        "microaneurysms.png",
        "moon.png",
        "page.png",
        "retina.jpg",
        "text.png",
    ),
    "val": ("ihc.png",),
    "test": ("gravel.png",),
}
PLAIN = 0.08  # a part with a smaller deviation of grey levels shows too little (a sky)
Place = tuple[Image.Image, tuple[float, ...]]  # an image, and the point of it that becomes the centre
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # images and references, uint8 [N, H, W]; angles, radians
Made = tuple[np.ndarray, np.ndarray, float, np.ndarray, float]  # image, reference, angle, shift in pixels, scale


def photograph(name: str) -> Image.Image:
    """Return a photograph that scikit-image or scikit-learn ships, in grey."""
    if name in ("china.jpg", "flower.jpg"):
        bunch = load_sample_images()
        return Image.fromarray(bunch.images[[Path(f).name for f in bunch.filenames].index(name)]).convert("L")
    import skimage

    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("L")


def pairs(what: str, level: str, count: int, root: Path | None, seed: int = 1) -> Pairs:
    """Return `count` pairs. The k-th depends on (what, level, k, seed) and on nothing else.

    The pairs of seed 0 were used while the methods were developed. Those of seed 1, which are reported, were not. They
    show other rotations and parts of the same photographs, and some of the same digits.

    Args:
        root: folder of MNIST; only digits need it.
    """
    return shifted_pairs(what, level, count, root, seed)[:3]


def shifted_pairs(
    what: str, level: str, count: int, root: Path | None, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs, their shifts and their scales.

    A shift is where the middle of the reference lies in the image, from its middle: (x, y) in pixels of the image. A
    scale is the size of a thing in the reference, divided by its size in the image. It is 1 unless the level is
    *scaled*.
    """
    made = _digits(level, count, root, seed) if what == "mnist" else _parts(SIZES[what], level, count, seed)
    images, references, angles, shifts, scales = zip(*made, strict=True)
    return np.stack(images), np.stack(references), np.array(angles), np.stack(shifts), np.array(scales)


def _digits(level: str, count: int, root: Path | None, seed: int) -> Iterator[Made]:
    test = MNIST(root, train=False)
    labels = test.targets.numpy()
    order = np.random.default_rng(seed).permutation(len(test))
    for k in range(count):
        rng = np.random.default_rng([28, SEEDS[level], k, seed])
        first = second = int(order[k])
        if level == "other instance":
            second = int(rng.choice(np.flatnonzero((labels == labels[first]) & (np.arange(len(test)) != first))))
        if level == "unrelated":
            second = int(rng.choice(np.flatnonzero(labels != labels[first])))
        digits = [(Image.fromarray(test.data[i].numpy()), (14.0, 14.0)) for i in (first, second)]
        yield _pair(digits[0], digits[1], 28, level, rng)


def _parts(size: int, level: str, count: int, seed: int) -> Iterator[Made]:
    whole = [photograph(name) for name in TESTED]
    for k in range(count):
        rng = np.random.default_rng([size, SEEDS[level], k, seed])
        first = second = _place(whole[k % len(whole)], size, rng)
        if level == "unrelated":
            second = _place(whole[(k + 1) % len(whole)], size, rng)
        yield _pair(first, second, size, level, rng)


def _place(image: Image.Image, size: int, rng: np.random.Generator) -> Place:
    """Choose a part of a photograph that is not plain, at a scale at which each rotation of it lies inside."""
    margin = size * (math.sqrt(0.5) + 0.1) + 1
    while True:
        factor = min(1.0, size * rng.uniform(2, 3) / min(image.size))  # reduced where the photograph is large,
        factor = max(factor, (2 * margin + 8) / min(image.size))  # enlarged where no part would fit
        small = image.resize([round(side * factor) for side in image.size], Image.Resampling.LANCZOS)
        for _ in range(20):
            centre = tuple(rng.uniform(margin, side - margin) for side in small.size)
            if _rotated((small, centre), 0.0, np.zeros(2), size).std() > PLAIN:
                return small, centre


def _pair(first: Place, second: Place, size: int, level: str, rng: np.random.Generator) -> Made:
    angles = rng.uniform(-math.pi, math.pi, 2)
    most = SHIFTS.get(level)
    moved = np.zeros(2) if most is None else rng.uniform(-most, most, 2) * size
    scale = math.exp(rng.uniform(*np.log(SCALES))) if level == "scaled" else 1.0
    # the smaller of two scales is that of the photograph: a reduced image would need a low-pass filter
    image = _rotated(first, angles[0], moved, size, max(1.0, 1 / scale))
    reference = _rotated(second, angles[1], np.zeros(2), size, max(1.0, scale))
    if level == "inverted":
        image = 1 - image
    if level in ("noisy", *SHIFTS):
        image, reference = (x * rng.uniform(0.8, 1.2) for x in (image, reference))
    if level == "hard":
        height = rng.uniform(0.35, 0.7)
        box = np.round(np.array([height, 0.25 / height]) * size).astype(int)
        top, left = rng.integers(0, size - box + 1)
        image[top : top + box[0], left : left + box[1]] = rng.uniform()
    noise = {"noisy": 0.1, "hard": 0.3, "shifted": 0.05, "shifted far": 0.05, "scaled": 0.05}.get(level, 0.0)
    image, reference = (x + noise * rng.standard_normal(x.shape) for x in (image, reference))
    saved = [_saved(x, "JPEG" if level == "hard" else "PNG") for x in (image, reference)]
    return saved[0], saved[1], float(angles[1] - angles[0]), moved, scale


def _rotated(place: Place, angle: float, moved: np.ndarray, size: int, enlarged: float = 1.0) -> np.ndarray:
    """Rotate counter-clockwise about the centre and enlarge, then move right and down, in one bicubic resampling."""
    image, centre = place
    c, s = math.cos(angle) / enlarged, math.sin(angle) / enlarged
    x, y = size / 2 + moved
    matrix = (c, -s, centre[0] - c * x + s * y, s, c, centre[1] - s * x - c * y)
    rotated = image.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(rotated, dtype=np.float64) / 255


def _saved(pixels: np.ndarray, kind: str) -> np.ndarray:
    """Return the bytes of an image after it was saved to a file and read again."""
    file = io.BytesIO()
    Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)).save(file, kind, quality=50)
    file.seek(0)
    return np.asarray(Image.open(file))


def write_parts(folder: Path, side: int, train: int) -> None:
    """Write upright parts of photographs to files: `train` to train on, a twentieth each to validate and to test."""
    rng = np.random.default_rng(1)
    making = folder.with_name(f"{folder.name}.making")
    for split, names in TRAINED.items():
        whole = [photograph(name) for name in names]
        place = making / split
        place.mkdir(parents=True, exist_ok=True)
        for k in range(train if split == "train" else train // 20):
            small = _part(whole[k % len(whole)], side, rng)
            while np.asarray(small).std() < 255 * PLAIN:
                small = _part(whole[rng.integers(len(whole))], side, rng)
            small.save(place / f"{k}.png")
    making.rename(folder)  # so that a folder of this name is always complete


def _part(image: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    part = round(min(image.size) * rng.uniform(0.4, 0.9))
    left, top = (int(rng.integers(0, length - part + 1)) for length in image.size)
    kind = Image.Resampling.LANCZOS if part > side else Image.Resampling.BICUBIC
    return image.crop((left, top, left + part, top + part)).resize((side, side), kind)
