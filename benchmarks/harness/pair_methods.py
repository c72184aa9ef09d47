"""Classical methods that estimate the rotation, or the whole motion, between two images: one pair in, radians out."""

import math
from typing import Any

import cv2
import imreg_dft
import kornia
import numpy as np
import torch
from pystackreg import StackReg
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

UPSAMPLED = 20  # of 360 directions: a twentieth of a degree
Moved = tuple[float, np.ndarray, float]  # angle; place of the middle of the reference, from that of the image; scale
NOTHING: Moved = (0.0, np.full(2, np.nan), np.nan)


def polar(image: np.ndarray, reference: np.ndarray, normalization: str | None) -> float:
    """scikit-image's recipe: `warp_polar` and `phase_cross_correlation`, each image less its mean."""
    rotated, target = (warp_polar(x - x.mean(), radius=min(x.shape) / 2) for x in (image, reference))
    shift, _, _ = phase_cross_correlation(target, rotated, normalization=normalization, upsample_factor=UPSAMPLED)
    return -math.radians(shift[0])


def brute_force(image: np.ndarray, reference: np.ndarray) -> float:
    """Rotate the image by each of 360 degrees; take the highest correlation (of either sign) inside the disc."""
    disc = _disc(image.shape)
    target = _unit(reference[disc])
    scores = [abs(_unit(_rotated(image, math.radians(degrees))[disc]) @ target) for degrees in range(360)]
    return math.radians(int(np.argmax(scores)))


def ecc(image: np.ndarray, reference: np.ndarray, starts: int) -> float:
    """OpenCV's ECC with Euclidean motion from evenly spaced starts; the highest correlation that it reports.

    The image is rotated by the start. OpenCV would lose an initial guess beyond 90 degrees, since it computes the angle
    of a matrix by an arc sine.
    """
    best = (-1.0, 0.0)
    target = reference.astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    for start in np.arange(starts) * (2 * math.pi / starts):
        rotated, identity = _rotated(image, start), np.eye(2, 3, dtype=np.float32)
        whole = (_rotated(np.ones(image.shape), start) > 0.99).astype(np.uint8)
        try:
            value, found = cv2.findTransformECC(target, rotated, identity, cv2.MOTION_EUCLIDEAN, criteria, whole, 5)
        except cv2.error:  # does not converge
            continue
        if value > best[0]:
            best = value, start + math.atan2(found[1, 0], found[0, 0])
    return best[1]


def registrator(image: np.ndarray, reference: np.ndarray, starts: int) -> float:
    """kornia's ImageRegistrator for rotation from evenly spaced starts; the least error inside the disc."""
    target = torch.from_numpy(reference).float()[None, None]
    disc = torch.from_numpy(_disc(image.shape))
    levels = max(1, round(math.log2(min(image.shape) / 14)))
    best = (math.inf, 0.0)
    for start in np.arange(starts) * (2 * math.pi / starts):
        rotated = torch.from_numpy(_rotated(image, start)).float()[None, None]
        # `rot` is in degrees: steps of half a degree reach the middle between two starts
        # the default tolerance stops a tenth of a degree early
        tool: Any = kornia.geometry.ImageRegistrator("rotation", pyramid_levels=levels, lr=0.5, tolerance=1e-7)
        tool.register(rotated, target)
        with torch.no_grad():
            error = float(((tool.warp_src_into_dst(rotated) - target) ** 2)[..., disc].mean())
            angle = start - math.radians(tool.model.rot.item())  # `rot` rotates the reference's coordinates back
        if error < best[0]:
            best = error, angle
    return best[1]


def sift(image: np.ndarray, reference: np.ndarray) -> Moved:
    """OpenCV's SIFT, matches by the ratio test, RANSAC for a similarity."""
    # without the option, keypoints lie a quarter of a pixel off, which a rotation turns into up to 0.7 pixels
    tool: Any = cv2.SIFT_create(enable_precise_upscale=True)  # type: ignore[attr-defined]
    points = [tool.detectAndCompute((255 * x).round().astype(np.uint8), None) for x in (image, reference)]
    if any(features is None or len(features) < 2 for _, features in points):
        return NOTHING
    (places, features), (others, other_features) = points
    pairs = cv2.BFMatcher().knnMatch(features, other_features, k=2)
    good = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    if len(good) < 2:
        return NOTHING
    source, target = (
        [kind[index].pt for index in at]
        for kind, at in ((places, [each.queryIdx for each in good]), (others, [each.trainIdx for each in good]))
    )
    matrix, _ = cv2.estimateAffinePartial2D(np.array(source), np.array(target), method=cv2.RANSAC)
    if matrix is None or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-6:
        return NOTHING
    return _moved(cv2.invertAffineTransform(matrix), image, reference)


def fourier(image: np.ndarray, reference: np.ndarray, scaled: bool) -> Moved:
    """imreg_dft: phase correlation of log-polar spectra in three iterations, then of the images.

    Without `scaled` its scale is fixed to 1.
    """
    constraints = {"angle": (0, None), "scale": (1, None if scaled else 0)}
    try:
        found = imreg_dft.similarity(reference, image, numiter=3, constraints=constraints)
    except ValueError:  # a scale beyond 2
        return NOTHING
    # where imreg_dft rounds sizes, its middle moves by up to half a pixel: transform coordinates as it does
    y, x = (np.arange(length) - (length - 1) / 2 for length in image.shape)
    ramps = (np.broadcast_to(ramp, image.shape) for ramp in (x, y[:, None]))
    middle = tuple(slice((length - 1) // 2, length // 2 + 1) for length in reference.shape)
    compared = found
    if abs(found["angle"]) > 90:  # by `np.rot90`, after it had searched half a circle: its own aligned image is off
        compared = {"scale": found["scale"], "angle": found["angle"] - 180, "tvec": -found["tvec"]}
    place = [imreg_dft.transform_img_dict(ramp, compared, bgval=0.0)[middle].mean() for ramp in ramps]
    return math.radians(found["angle"]), np.array(place), found["scale"]


def stackreg(image: np.ndarray, reference: np.ndarray, scaled: bool) -> Moved:
    """pystackreg: the descent of TurboReg from coarse to fine, from no motion."""
    kind = StackReg.SCALED_ROTATION if scaled else StackReg.RIGID_BODY
    return _moved(StackReg(kind).register(reference, image)[:2], image, reference)


def _moved(matrix: np.ndarray, image: np.ndarray, reference: np.ndarray) -> Moved:
    """Return the motion whose 2 x 3 matrix maps points (column, row) of the reference to those of the image."""
    middle, other = ((np.array(x.shape[::-1]) - 1) / 2 for x in (reference, image))
    place = matrix[:, :2] @ middle + matrix[:, 2] - other
    return math.atan2(matrix[1, 0], matrix[0, 0]), place, 1 / math.hypot(matrix[0, 0], matrix[1, 0])


def _rotated(image: np.ndarray, angle: float) -> np.ndarray:
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), math.degrees(angle), 1.0)
    return cv2.warpAffine(image.astype(np.float32), matrix, (width, height), flags=cv2.INTER_CUBIC)


def _disc(shape: tuple[int, ...]) -> np.ndarray:
    y, x = (np.arange(length) - (length - 1) / 2 for length in shape)
    return np.hypot(y[:, None], x) <= (min(shape) - 1) / 2


def _unit(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / max(np.linalg.norm(values), 1e-9)
