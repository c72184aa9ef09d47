"""Find the motion between two images that are rotated, shifted and perhaps scaled: from coarse to fine."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.alignment.motion import Motion
from stnrot.alignment.motion_kind import MotionKind
from stnrot.alignment.motion_refinement import polish, refine
from stnrot.alignment.motion_search import ANGLES, misplaced, search
from stnrot.geometry.angles import angular_distance, upsample_log_density
from stnrot.geometry.constants import constant
from stnrot.models.confidence import BINS
from stnrot.models.outputs import Orientation

# Pixels of the shorter side. All motions are searched below COARSE. The best are compared up to DECIDED: noise hides
# more detail than a larger image adds. The best of all is refined up to FINE.
COARSE, DECIDED, FINE = 48, 80, 256
SEARCHED, KEPT = 8, 3  # motions that are refined on the coarsest level, on the others
SCALES = tuple(0.7 * 2 ** (k / 6) for k in range(7))  # that are searched; refinement finds those between
SAME = math.radians(4)  # motions whose angles are nearer are one
STEPS = (2, 2)  # of all motions on the coarsest level, on the others
POLISHED = (4, 4, 3)  # steps of the best on the last levels, from coarse to fine
SHARP = 64  # pixels of a side from which the detail of one pixel is smoothed; with fewer pixels, less
SURROUNDINGS = 0.12  # of the local contrast, as a share of the shorter side
FLOOR = 0.02  # of the contrast; a plainer place is not made brighter
SMOOTH = 0.5  # pixels, of the images that are polished
POLISH_KEEPS = 0.9  # of the evidence, else the best is not polished: too much is hidden
SHIFTED = 1.0  # what the evidence loses by a shift of a whole side
# A motion has the odds (evidence / chance) ** SHARPNESS against exp(UNRELATED) for no match, where `chance` is the mean
# evidence of all other motions on the coarsest level, which match by chance. The powers maximise the likelihood of the
# right motion of digits and photographs of 28 to 256 pixels, related and not, of spots, and of noise; 5.2 would be best
# for it, and 5.5 keeps the confidence of unrelated images lower.
SHARPNESS, UNRELATED = {"rigid": 6.5, "similarity": 7.2}, 5.5
# What the score of an angle and the log-odds of a motion gain by the log-density of a model, which counts down to
# -LEAST_PRIOR. They were chosen on hard pairs of 64 pixels.
SEARCH_PRIOR, LEAST_PRIOR, PRIOR = 0.1, 4.0, 1.0
LEAST = 0.01  # of the evidence in these formulas
PRECISE = math.radians(1.5)  # standard deviation of the error about a motion that is right


def motion_between(
    image: Float[Tensor, "B C H W"],
    reference: Float[Tensor, "R C h w"],
    kind: MotionKind,
    prior: Float[Tensor, "B A"] | None = None,
) -> tuple[Orientation, Motion]:
    """Return the motions of each image onto its reference, the likeliest first.

    The smaller image is searched for in the larger one.

    Args:
        image: images.
        reference: one for each image, or one for all.
        kind: `rigid` or `similarity`.
        prior: the log-posterior over the angle that a model has found.
    """
    scaled = kind == "similarity"
    grey = [_grey(each).expand(len(image), -1, -1, -1) for each in (image, reference)]
    swapped = math.prod(reference.shape[-2:]) > math.prod(image.shape[-2:])
    scene, part = reversed(grey) if swapped else grey
    if prior is not None:
        prior = upsample_log_density(prior, BINS)
        prior = prior.flip(1).roll(1, 1) if swapped else prior  # of the opposite angle
    side = min(*scene.shape[-2:], *part.shape[-2:])
    coarse, decided, fine = (max(0, math.ceil(math.log2(side / most))) for most in (COARSE - 0.5, DECIDED, FINE))
    levels = [_pyramid(each, coarse) for each in (scene, part)]
    even = [_even_contrast(each[coarse], side / 2**coarse) for each in levels]
    searched = search(even[0], even[1], SEARCHED, SCALES if scaled else (1.0,), _bonus(prior))
    motion, evidence = _refined(even[0], even[1], searched, STEPS[0], kind, prior)
    chance = evidence[:, 1:].mean(1, keepdim=True)
    for level in range(coarse - 1, decided - 1, -1):
        even = [_even_contrast(each[level], side / 2**level) for each in levels]
        motion, evidence = _refined(even[0], even[1], motion.first(KEPT).enlarged(2.0), STEPS[1], kind, prior)
    motion, evidence = motion.first(KEPT).enlarged(2.0**decided), evidence[:, :KEPT]
    best = motion.first(1)
    for level, steps in zip(range(min(coarse, fine + len(POLISHED) - 1), fine - 1, -1), POLISHED, strict=False):
        finest = [_standard(each[level]) for each in levels]
        best = polish(finest[0], finest[1], best.enlarged(0.5**level), steps, scaled).enlarged(2.0**level)
    polished = refine(even[0], even[1], best.enlarged(0.5**decided), 0, scaled)[1]
    motion = motion.replaced(best, polished[:, 0] > POLISH_KEEPS * evidence[:, 0])
    motion = motion.recentred(*(_cut(each, coarse) for each in (scene, part)))
    if swapped:
        motion = motion.inverse()
        prior = prior if prior is None else prior.flip(1).roll(1, 1)
    return _orientation(motion.angle, evidence / chance, kind, prior), motion


def _bonus(prior: Float[Tensor, "B bins"] | None) -> Float[Tensor, "B angles"] | None:
    """Return what the score of each angle gains by a prior."""
    if prior is None:
        return None
    return SEARCH_PRIOR * (prior[:, _searched(prior.device)] + math.log(BINS)).clamp(min=-LEAST_PRIOR)


@constant
def _searched(device: torch.device) -> Int[Tensor, "angles"]:
    """Return the bins of the angles that are searched."""
    return (torch.arange(ANGLES, device=device) * (BINS / ANGLES)).round().long() % BINS


def _refined(
    scene: Float[Tensor, "B 1 H W"],
    part: Float[Tensor, "B 1 h w"],
    motion: Motion,
    steps: int,
    kind: MotionKind,
    prior: Float[Tensor, "B A"] | None,
) -> tuple[Motion, Float[Tensor, "B K"]]:
    """Refine motions; return them and their evidence, the likeliest first. One that repeats a better one has none."""
    motion, evidence = refine(scene, part, motion, steps, kind == "similarity")
    x, y = motion.offset.real, motion.offset.imag
    evidence = evidence - SHIFTED * misplaced(x, y, motion.scale, scene.shape[-2:], part.shape[-2:])
    near = angular_distance(motion.angle[:, :, None], motion.angle[:, None]) < SAME
    evidence = evidence.masked_fill((near & (evidence[:, None] > evidence[:, :, None])).any(2), 0).clamp(min=LEAST)
    order = _log_odds(motion.angle, evidence, kind, prior).argsort(1, descending=True)
    return motion.take(order), evidence.gather(1, order)


def _log_odds(
    angle: Float[Tensor, "B K"], evidence: Float[Tensor, "B K"], kind: MotionKind, prior: Float[Tensor, "B A"] | None
) -> Float[Tensor, "B K"]:
    odds = SHARPNESS[kind] * evidence.log()
    if prior is None:
        return odds
    place = (angle * (prior.shape[1] / (2 * math.pi))).round().long() % prior.shape[1]
    return odds + PRIOR * (prior.gather(1, place) + math.log(prior.shape[1])).clamp(min=-LEAST_PRIOR)


def _orientation(
    angle: Float[Tensor, "B K"], evidence: Float[Tensor, "B K"], kind: MotionKind, prior: Float[Tensor, "B A"] | None
) -> Orientation:
    """Return the posterior: a narrow peak at each angle, and a share for no match that follows the prior."""
    weight = _log_odds(angle, evidence, kind, prior)
    *peaks, none = torch.cat((weight, torch.full_like(weight[:, :1], UNRELATED)), 1).softmax(1).unbind(1)
    nowhere = torch.full_like(weight[:, :1], 1 / BINS) if prior is None else prior.exp()
    distance = angular_distance(angle[..., None], _bins(angle.device, angle.dtype))
    density = (distance / PRECISE).square().mul(-0.5).clamp(min=-30).exp().masked_fill(distance > 6 * PRECISE, 0)
    density = density / density.sum(2, keepdim=True)
    posterior = (torch.stack(peaks, 1)[..., None] * density).sum(1) + none[:, None] * nowhere
    return Orientation(angle, weight.log_softmax(1), posterior.clamp(min=1e-12).log().log_softmax(1))


@constant
def _bins(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "A"]:
    return torch.arange(BINS, device=device, dtype=dtype) * (2 * math.pi / BINS)


def _grey(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    """Return the mean of the channels, scaled so that no sum of values and no square overflows."""
    most = image.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(image.dtype).tiny)
    image = (image / most).mean(1, keepdim=True)
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return (image - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny)


def _pyramid(image: Float[Tensor, "B 1 H W"], halvings: int) -> list[Float[Tensor, "B 1 _ _"]]:
    """Return the image, cut to sides that can be halved, and halved 1, 2, ... times."""
    height, width = (side >> halvings << halvings for side in image.shape[-2:])
    top, left = ((was - now) // 2 for was, now in zip(image.shape[-2:], (height, width), strict=True))
    levels = [image[..., top : top + height, left : left + width]]
    for _ in range(halvings):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _cut(image: Float[Tensor, "B 1 H W"], halvings: int) -> complex:
    """Return where the middle of the cut image lies, from the middle of the image."""
    return complex(*(-0.5 * ((side - (side >> halvings << halvings)) % 2) for side in reversed(image.shape[-2:])))


def _even_contrast(image: Float[Tensor, "B 1 H W"], side: float) -> Float[Tensor, "B 1 H W"]:
    """Subtract the mean of the surroundings of each pixel, and divide by their contrast."""
    image = _smooth(image, min(1.0, side / SHARP))
    image = image - _smooth(image, SURROUNDINGS * side)
    return image / (_smooth(image.square(), SURROUNDINGS * side).sqrt() + FLOOR)


def _standard(image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Smooth slightly, subtract the mean and divide by the contrast."""
    image = _smooth(image, SMOOTH)
    deviation, mean = torch.std_mean(image, (2, 3), keepdim=True)
    return (image - mean) / deviation.clamp(min=torch.finfo(image.dtype).tiny)


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
    weight = (distance.square() / -2).clamp(min=-30).exp().masked_fill(distance.abs() > 4, 0)
    return weight / weight.sum(1, keepdim=True)
