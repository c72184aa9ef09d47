"""With `align` in front, keypoint matchers that are not rotation invariant match images at any angle.

    python benchmarks/matchers.py [--pairs 120] [--json PATH]

Five minutes on one core. Needs the extra `classical`. Pairs are the shifted photographs of `shifted_pairs.py`:
rotated by any angle, shifted by up to 7 % of the side, with noise of 0.05 and a change of brightness. SIFT and ORB are
rotation invariant. Without the angles of their keypoints (*upright*) they are not, and stand for matchers such as
LightGlue, LoFTR and RoMa, which tolerate larger angles than they do. Each matcher gets the image as it is; the image in
four quarter turns, of which the one with the most inliers counts; and the image that `align(motion="rigid")` has laid
on the reference, whose keypoints are mapped back by `Alignment.matrix`. Matches pass Lowe's ratio test (0.8).

A match is right if it is within 3 pixels of the true motion. A homography (MAGSAC) is right if it maps the corners of
the image within 3 pixels on average. Prints the mean number of matches, the share that is right, the time of a pair
(with the homography), and by the angle between the images: the mean number of right matches and the share of pairs with
a right homography.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from harness.environment import environment
from harness.pair_sets import shifted_pairs
from harness.report import Options, Row, Table, at_least_one, report
from stnrot import align
from stnrot.runs.command_line import one_line_errors

RIGHT = 3.0  # pixels
STEP = 30  # degrees
Found = tuple[np.ndarray, np.ndarray, np.ndarray | None, int]  # points of both [N, 2]; homography; number of inliers


def keypoints(image: np.ndarray, kind: str, upright: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return places [N, 2] and descriptors."""
    tool: Any
    tool = cv2.SIFT_create(enable_precise_upscale=True) if kind == "SIFT" else cv2.ORB_create()  # type: ignore[attr-defined]
    found = tool.detect(image, None)
    if upright:
        for each in found:
            each.angle = 0.0
        found = list({(each.pt, each.size): each for each in found}.values())  # SIFT has one for each of several angles
    found, features = tool.compute(image, found)
    return np.array([each.pt for each in found], dtype=np.float64).reshape(-1, 2), features


def matched(image: np.ndarray, reference: np.ndarray, kind: str, upright: bool, matrix: np.ndarray) -> Found:
    """Warp the image by a matrix, match it with the reference, map its points back and estimate a homography."""
    warped = cv2.warpAffine(image, matrix, reference.shape[::-1], flags=cv2.INTER_CUBIC)
    (places, features), (others, other_features) = (keypoints(each, kind, upright) for each in (warped, reference))
    if features is None or other_features is None or len(others) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2)), None, 0
    norm = cv2.NORM_L2 if kind == "SIFT" else cv2.NORM_HAMMING
    pairs = cv2.BFMatcher(norm).knnMatch(features, other_features, k=2)
    good = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    if not good:
        return np.zeros((0, 2)), np.zeros((0, 2)), None, 0
    source = places[[each.queryIdx for each in good]]
    source = cv2.transform(source[None], cv2.invertAffineTransform(matrix))[0]
    target = others[[each.trainIdx for each in good]]
    if len(good) < 4:
        return source, target, None, 0
    homography, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, RIGHT)
    return source, target, homography, 0 if homography is None else int(inliers.sum())


def as_it_is(image: np.ndarray, reference: np.ndarray, kind: str, upright: bool) -> Found:
    """Match the image as it is."""
    return matched(image, reference, kind, upright, np.eye(2, 3))


def quarter_turns(image: np.ndarray, reference: np.ndarray, kind: str, upright: bool) -> Found:
    """Match the image in four quarter turns; take the one with the most inliers."""
    middle = (len(image) - 1) / 2
    turns = (cv2.getRotationMatrix2D((middle, middle), 90 * k, 1).round(9) for k in range(4))
    return max((matched(image, reference, kind, upright, turn) for turn in turns), key=lambda each: each[3])


def aligned(image: np.ndarray, reference: np.ndarray, kind: str, upright: bool) -> Found:
    """Match the image after `align`."""
    matrix = align(image, reference, motion="rigid").matrix[0].double().numpy()
    return matched(image, reference, kind, upright, matrix)


WAYS: dict[str, Callable[..., Found]] = {
    "as it is": as_it_is,
    "four quarter turns": quarter_turns,
    "aligned": aligned,
}


def row(kind: str, upright: bool, way: str, made: tuple[np.ndarray, ...]) -> Row:
    """Match all pairs in one way, and return its row."""
    images, references, angles, shifts, _ = made
    find = partial(WAYS[way], kind=kind, upright=upright)
    find(images[0], references[0])
    start = time.perf_counter()
    found = [find(*pair) for pair in zip(images, references, strict=True)]
    ms = 1e3 * (time.perf_counter() - start) / len(found)
    scores = [score(*each, images.shape[-1]) for each in zip(found, angles, shifts, strict=True)]
    matches, right, homographies = np.array(scores).T
    off = np.abs((np.degrees(angles) + 180) % 360 - 180)
    cells = {}
    for low in range(0, 180, STEP):
        some = (off >= low) & (off < low + STEP)
        cell = f"{right[some].mean():.0f}, {100 * homographies[some].mean():.0f} %" if some.any() else None
        cells[f"{low} to {low + STEP} degrees"] = cell
    return {
        "matcher": f"{'upright ' if upright else ''}{kind}",
        "image": way,
        "matches": f"{matches.mean():.0f}",
        "right, %": f"{100 * right.sum() / max(matches.sum(), 1):.0f}",
        "ms a pair": ms,
        **cells,
    }


def score(found: Found, angle: float, shift: np.ndarray, side: int) -> tuple[int, int, bool]:
    """Return the number of matches, of right ones, and whether the homography is right."""
    source, target, homography, _ = found
    centre = (side - 1) / 2 + shift
    truth = cv2.getRotationMatrix2D(tuple(centre), math.degrees(angle), 1)
    truth[:, 2] -= shift
    right = np.linalg.norm(cv2.transform(source[None], truth)[0] - target, axis=1) <= RIGHT if len(source) else source
    if homography is None:
        return len(source), int(right.sum()), False
    corners = (side - 1) * np.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    off = cv2.perspectiveTransform(corners, homography) - cv2.transform(corners, truth)
    return len(source), int(right.sum()), bool(np.linalg.norm(off, axis=-1).mean() <= RIGHT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Match and report."""
    options = Options(__file__, __doc__, pairs=2)
    options.add_argument("--pairs", type=at_least_one, default=120, help="of each size")
    args = options.read(arguments)
    tables = []
    for size in (128, 256):
        made = shifted_pairs(f"photographs {size}", "shifted", args.pairs, None)
        rows = [row(kind, upright, way, made) for kind in ("SIFT", "ORB") for upright in (False, True) for way in WAYS]
        tables.append(Table(f"pairs of photographs {size}: right matches, pairs with a right homography", rows))
    report(args, environment("cpu"), *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
