"""The classical ways to tell by how much two pictures are turned: one pair in, radians out."""

import math
from typing import Any

import cv2
import kornia
import numpy as np
import torch
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

UPSAMPLED = 20  # of 360 directions: a twentieth of a degree


def polar(image: np.ndarray, reference: np.ndarray, normalization: str | None) -> float:
    """scikit-image's recipe: `warp_polar` and `phase_cross_correlation`, each picture less its mean."""
    turned, target = (warp_polar(x - x.mean(), radius=min(x.shape) / 2) for x in (image, reference))
    shift, _, _ = phase_cross_correlation(target, turned, normalization=normalization, upsample_factor=UPSAMPLED)
    return -math.radians(shift[0])


def brute_force(image: np.ndarray, reference: np.ndarray) -> float:
    """Turn the image by each of 360 degrees; take the highest correlation (of either sign) inside the disc."""
    disc = _disc(image.shape)
    target = _unit(reference[disc])
    scores = [abs(_unit(_turned(image, math.radians(degrees))[disc]) @ target) for degrees in range(360)]
    return math.radians(int(np.argmax(scores)))


def ecc(image: np.ndarray, reference: np.ndarray, starts: int) -> float:
    """OpenCV's ECC with Euclidean motion, from equal starts; the highest correlation that it reports.

    The image is turned by the start: handed over as a guess, angles beyond 90 degrees are lost, as OpenCV takes the
    angle out of the matrix by an arc sine.
    """
    best = (-1.0, 0.0)
    target = reference.astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    for start in np.arange(starts) * (2 * math.pi / starts):
        turned, upright = _turned(image, start), np.eye(2, 3, dtype=np.float32)
        whole = (_turned(np.ones(image.shape), start) > 0.99).astype(np.uint8)
        try:
            value, found = cv2.findTransformECC(target, turned, upright, cv2.MOTION_EUCLIDEAN, criteria, whole, 5)
        except cv2.error:  # does not converge
            continue
        if value > best[0]:
            best = value, start + math.atan2(found[1, 0], found[0, 0])
    return best[1]


def registrator(image: np.ndarray, reference: np.ndarray, starts: int) -> float:
    """kornia's ImageRegistrator for rotation, from equal starts; the least error inside the disc."""
    target = torch.from_numpy(reference).float()[None, None]
    disc = torch.from_numpy(_disc(image.shape))
    levels = max(1, round(math.log2(min(image.shape) / 14)))
    best = (math.inf, 0.0)
    for start in np.arange(starts) * (2 * math.pi / starts):
        turned = torch.from_numpy(_turned(image, start)).float()[None, None]
        # `rot` is in degrees: half of one a step reaches the middle between two starts
        # and what it stops at by default it is a tenth of a degree short of
        tool: Any = kornia.geometry.ImageRegistrator("rotation", pyramid_levels=levels, lr=0.5, tolerance=1e-7)
        tool.register(turned, target)
        with torch.no_grad():
            error = float(((tool.warp_src_into_dst(turned) - target) ** 2)[..., disc].mean())
            angle = start - math.radians(tool.model.rot.item())  # which turns the reference's coordinates back
        if error < best[0]:
            best = error, angle
    return best[1]


def _turned(image: np.ndarray, angle: float) -> np.ndarray:
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), math.degrees(angle), 1.0)
    return cv2.warpAffine(image.astype(np.float32), matrix, (width, height), flags=cv2.INTER_CUBIC)


def _disc(shape: tuple[int, ...]) -> np.ndarray:
    y, x = (np.arange(length) - (length - 1) / 2 for length in shape)
    return np.hypot(y[:, None], x) <= (min(shape) - 1) / 2


def _unit(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / max(np.linalg.norm(values), 1e-9)
