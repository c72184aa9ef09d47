"""The mixture of class probabilities over the hypotheses of an image."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.geometry.tails import log_softmax


def joint_log_probability(
    log_weight: Float[Tensor, "B K"],
    logits: Float[Tensor, "N classes"],
    classified: tuple[Int[Tensor, "N"], Int[Tensor, "N"]],
) -> Float[Tensor, "B K classes"]:
    """Return log p(hypothesis, class | image), as in the formula of `RotSTN`.

    The probability of a class is the sum over the hypotheses, that of a hypothesis the sum over the classes.

    Args:
        log_weight: log-weight of each hypothesis, from the encoder.
        logits: of the N rotated images that were classified.
        classified: image and hypothesis of each of the N. The probability of every other hypothesis is 0.
    """
    log_zero = torch.finfo(log_weight.dtype).min
    joint = log_weight.new_full((*log_weight.shape, logits.shape[1]), log_zero)
    joint = joint.index_put(classified, log_weight[classified][:, None] + logits)
    return log_softmax(joint.flatten(1), 1).view_as(joint)
