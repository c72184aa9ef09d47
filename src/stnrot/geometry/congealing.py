"""Congealing: align images with others of their class, without a reference image and without known angles."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.arguments import Count, checked
from stnrot.errors import InputError
from stnrot.geometry.angles import circular_peaks
from stnrot.geometry.correlation import correlate, fast_length
from stnrot.geometry.planar import rotate

STARTS = 4  # images that are tried as the first mean
TRIED = 100  # images on which a start is tried
ROUNDS = 6  # of alignment with the mean and renewal of the mean


@checked
def congeal(image: Float[Tensor, "N C H W"], label: Int[Tensor, "N"], classes: Count) -> Float[Tensor, "classes C H W"]:
    """Align the images of each class with one another, and the classes; return the mean image of each class.

    `rotation_onto` then gives the angle of an image. The images of a class must look alike, up to a rotation. No angle
    is known, so the upright is arbitrary. As far as the means of the classes look alike, it is the same for all.

    Each image is rotated to the angle at which it correlates most with the mean of its class. The mean is taken anew,
    and so on for some rounds. At first a single image stands for the mean. Of several starts, the one with the highest
    mean correlation in the end is kept.

    The means of the classes are aligned with one another in the same way. The mean of a class without images is zero.

    Raises:
        InputError: if a label is not in 0 ... classes - 1.

    Source: E. G. Learned-Miller, Data driven image models through continuous joint alignment, 2006; there with the
    entropy of the pixels instead of the correlation, and with more kinds of motion.
    """
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise InputError(
            f"label: expected whole numbers from 0 to {classes - 1}, got {int(label.min())} to {int(label.max())}"
        )
    members = {each: image[label == each] for each in range(classes)}
    found = [each for each, images in members.items() if len(images)]
    means = image.new_zeros(classes, *image.shape[1:])
    if found:
        own = torch.cat([_aligned(members[each])[1] for each in found])
        means[found] = rotate(own, _aligned(own)[0])
    return means


@checked
def rotation_onto(
    image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Return the angle (radians) at which an image correlates most with its reference, and the correlation there.

    See `correlate`. One reference serves all images, or each image has its own.

    Raises:
        InputError: if there is neither one reference nor one for each image.
    """
    correlation = correlate(image, reference)
    samples = correlation.sampled(fast_length(3 * correlation.coefficient.shape[1]))
    return circular_peaks(samples, 1, 1)[0][:, 0].to(image.dtype), samples.amax(1).to(image.dtype)


def _aligned(image: Float[Tensor, "N C H W"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "1 C H W"]]:
    """Return the angles (radians) that align images with one another, and the mean of the aligned images."""
    tried = image[:TRIED]
    _, best, _ = max((_rounds(tried, start) for start in image[:STARTS].split(1)), key=lambda each: float(each[2]))
    angle, mean, _ = _rounds(image, best)
    return angle, mean


def _rounds(
    image: Float[Tensor, "N C H W"], mean: Float[Tensor, "1 C H W"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "1 C H W"], Float[Tensor, ""]]:
    """Return the angles, the mean and the mean correlation after some rounds."""
    for _ in range(ROUNDS):
        angle, correlation = rotation_onto(image, mean)
        mean = rotate(image, angle).mean(0, keepdim=True)
    return angle, mean, correlation.mean()
