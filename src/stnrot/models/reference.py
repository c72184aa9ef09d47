"""The learned reference that a model aligns images with."""

from collections.abc import Sequence

import torch
from torch import nn


def learned_reference(shape: Sequence[int]) -> nn.Parameter:
    """Return a parameter of one reference of this shape, random at the start: an image, or the features of one.

    It is the same for every image, so it contains neither label nor pose.
    """
    return nn.Parameter(0.1 * torch.randn(1, *shape))
