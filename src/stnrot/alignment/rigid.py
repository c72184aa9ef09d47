"""Align two images that are rotated and shifted: from coarse to fine."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.alignment.rigid_refinement import refine
from stnrot.alignment.rigid_search import misplaced, search
from stnrot.geometry.angles import angular_distance
from stnrot.geometry.constants import constant

COARSE, FINE = 48, 256  # pixels of the shorter side: all motions are searched below COARSE, none is refined above FINE
SEARCHED, KEPT = 8, 3  # motions that are refined on the coarsest level, on the others
SAME = math.radians(4)  # motions whose angles are nearer are one
STEPS = (4, 3)  # on the coarsest level, on the others
SHARP = 64  # pixels of a side from which the detail of one pixel is smoothed; with fewer pixels, less
SURROUNDINGS = 0.12  # of the local contrast, as a share of the shorter side
SHIFTED = 1.0  # what the evidence loses by a shift of a whole side
FLOOR = 0.02  # of the contrast; a plainer place is not made brighter


def rigid_motions(
    image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]
) -> tuple[Motion, Float[Tensor, "B K"]]:
    """Return the motions of each image onto its reference, and the evidence for each, the likeliest first.

    One pixel of the image is as large as one of the reference. The smaller of the two is searched for in the larger.
    """
    grey = [each.mean(1, keepdim=True).expand(len(image), -1, -1, -1) for each in (image, reference)]
    swapped = math.prod(reference.shape[-2:]) > math.prod(image.shape[-2:])
    scene, part = reversed(grey) if swapped else grey
    side = min(*scene.shape[-2:], *part.shape[-2:])
    coarse, fine = (max(0, math.ceil(math.log2(side / most))) for most in (COARSE - 0.5, FINE))
    scenes, parts = (_pyramid(each, coarse) for each in (scene, part))
    for level in range(coarse, fine - 1, -1):
        scene, part = (_even_contrast(each[level], side / 2**level) for each in (scenes, parts))
        if level == coarse:
            motion = search(scene, part, SEARCHED)
        motion, evidence = refine(scene, part, motion, STEPS[int(level < coarse)])
        free = [(a - b) / 2 for a, b in zip(scene.shape[-2:], part.shape[-2:], strict=True)]
        evidence = evidence - SHIFTED * misplaced(*motion.offset.unbind(-1), free, min(part.shape[-2:]))
        evidence = evidence.masked_fill(_repeats(motion.angle, evidence), -math.inf)
        order = evidence.argsort(1, descending=True)
        if level > fine:
            motion = motion.take(order[:, :KEPT]).scaled(2.0)
    motion, evidence = motion.take(order).scaled(2.0**fine), evidence.gather(1, order)
    cut_scene, cut_part = (_cut(each, coarse) for each in (grey[::-1] if swapped else grey))
    moved = motion.rotated(motion.offset.new_tensor(cut_part).expand_as(motion.offset))
    motion = Motion(motion.angle, motion.offset - moved + motion.offset.new_tensor(cut_scene))
    return motion.inverse() if swapped else motion, evidence


def _repeats(angle: Float[Tensor, "B K"], evidence: Float[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
    """Return which motions have the angle of one with more evidence: several may end in one minimum."""
    near = angular_distance(angle[:, :, None], angle[:, None]) < SAME
    better = evidence[:, None] > evidence[:, :, None]
    return (near & better).any(2)


def _pyramid(image: Float[Tensor, "B 1 H W"], halvings: int) -> list[Float[Tensor, "B 1 _ _"]]:
    """Return the image, cut to sides that can be halved, and halved 1, 2, ... times."""
    height, width = (side >> halvings << halvings for side in image.shape[-2:])
    top, left = ((was - now) // 2 for was, now in zip(image.shape[-2:], (height, width), strict=True))
    levels = [image[..., top : top + height, left : left + width]]
    for _ in range(halvings):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _cut(image: Float[Tensor, "B 1 H W"], halvings: int) -> list[float]:
    """Return where the middle of the cut image lies, from the middle of the image: (x, y)."""
    return [-0.5 * ((side - (side >> halvings << halvings)) % 2) for side in reversed(image.shape[-2:])]


def _even_contrast(image: Float[Tensor, "B 1 H W"], side: float) -> Float[Tensor, "B 1 H W"]:
    """Subtract the mean of the surroundings of each pixel, and divide by their contrast."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    image = _smooth((image - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny), min(1.0, side / SHARP))
    image = image - _smooth(image, SURROUNDINGS * side)
    return image / (_smooth(image.square(), SURROUNDINGS * side).sqrt() + FLOOR)


def _smooth(image: Float[Tensor, "B 1 H W"], sigma: float) -> Float[Tensor, "B 1 H W"]:
    rows, columns = (_gaussian(length, sigma, image.device, image.dtype) for length in image.shape[-2:])
    return rows @ image @ columns.T


@constant
def _gaussian(
    length: int, sigma: float, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "{length} {length}"]:
    """Return the weights of a Gaussian about each pixel of a row; they sum to one inside the row."""
    place = torch.arange(length, device=device, dtype=dtype)
    distance = (place[:, None] - place) / sigma
    weight = (distance.square() / -2).exp().masked_fill(distance.abs() > 4, 0)
    return weight / weight.sum(1, keepdim=True)
